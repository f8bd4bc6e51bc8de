"""What a source holds, before and after it is checked."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_en.arguments import fault, require
from keras_en.training.data import images, sampling
from keras_en.training.data.arrays import ArraySplit
from keras_en.training.data.encoded import EncodedSplit

# Images that are smaller when decoded, in bytes, are decoded once and stay in memory.
IN_MEMORY = 1 << 31
# The value of pixels that count nowhere, as most data sets have it.
VOID = 255
# Of the training images, where a source has nothing else.
HELD_OUT = 0.2
_EVERY_CLASS = "hold training images of every class"


@dataclass
class Part:
    """A split, as its source has it.

    Attributes:
        images: `(N, H, W, C)`, uint8; or a list of paths, or of the bytes of files.
        labels: `(N,)`, integers, or `None`.
        masks: `None`, or as `images`, without a channel.
        names: What errors call each image.
        ordered: Whether their order is one that the source has by itself.
        sizes: `(N, 2)`, height and width of each image, once it is checked.
        histograms: `(N, 256)`, how often its mask has each value; or `None`.
    """

    images: Any
    labels: np.ndarray | None
    masks: Any
    names: list[str]
    ordered: bool = True
    sizes: np.ndarray | None = None
    histograms: np.ndarray | None = None

    def __len__(self):
        return len(self.images)

    def only(self, chosen):
        """The samples that an array of booleans chooses."""
        numbers = np.flatnonzero(chosen)

        def of(values):
            if values is None or isinstance(values, np.ndarray):
                return values if values is None else values[numbers]
            return [values[i] for i in numbers]

        own = ("images", "labels", "masks", "names", "sizes", "histograms")
        return replace(self, **{name: of(getattr(self, name)) for name in own})


@dataclass
class Contents:
    """A source.

    Attributes:
        where: What errors call it.
        parts: By the name of the split; "train" is there.
        class_names: By the label in the source; `None`: their numbers.
        void: The label in the source of pixels that count nowhere, or `None`.
        ready: Splits that need no check, in the place of `parts`.
    """

    where: str
    parts: dict[str, Part]
    class_names: tuple | None = None
    void: int | None = None
    ready: dict = field(default_factory=dict)


def settled(contents, image_size, skip_broken, seed):
    """The splits of a source, its classes, the label `void`, and texts of what was left
    out. `seed`: of what is split off; `None`: nothing is.

    Raises:
        ValueError: A fault of the source.
    """
    if contents.ready:
        return contents.ready, contents.class_names, contents.void, []
    parts, skipped = {}, []
    for name, part in contents.parts.items():
        parts[name] = _checked(contents, name, part, skip_broken, skipped)
    if parts["train"].masks is None:
        names = _classes(contents, {n: p.labels for n, p in parts.items()})
        void, table = None, None
    else:
        names, void, table = _labelling(contents, parts)
    if seed is not None and not {"validation", "test"} & set(parts):
        parts = _with_held_out(contents.where, parts, seed)
    splits = {name: _split(part, table, image_size) for name, part in parts.items()}
    return splits, names, void, skipped


def _checked(contents, name, part, skip_broken, skipped):
    """A part without what is broken, decoded where it is small, and measured."""
    where = contents.where
    require(len(part), where, "hold images", f"none for {name}")
    for values, what in ((part.labels, "labels"), (part.masks, "masks")):
        count = len(part) if values is None else len(values)
        received = f"{count} and {len(part)} for {name}"
        require(count == len(part), where, f"hold as many {what} as images", received)
    results = _inspected(part)
    broken = [isinstance(result, images.Broken) for result in results]
    texts = [f"{part.names[i]}: {results[i]}" for i in np.flatnonzero(broken).tolist()]
    usable, more = "hold images that can be used", ", ..." if len(texts) > 3 else ""
    what = f"{usable}; skip_broken=True (--skip-broken) leaves out those that cannot"
    received = f"{len(texts)} of {len(part)}: {', '.join(texts[:3])}{more}"
    require(not texts or skip_broken, where, what, received)
    received = f"{name}, of which all {len(part)} are broken"
    require(len(texts) < len(part), where, usable, received)
    if texts:
        skipped.extend(texts)
        part = part.only(~np.array(broken))
        results = [r for r, wrong in zip(results, broken, strict=True) if not wrong]
    return _decoded(part, results)


def _inspected(part):
    """Of each image its pixels, where they are few; otherwise `(size, histogram)`; or
    a `Broken`."""
    if isinstance(part.images, np.ndarray):
        size = part.images.shape[1:3]
        masks = part.masks
        return [
            (size, None if masks is None else np.bincount(mask.ravel(), minlength=256))
            for mask in (part.images if masks is None else masks)
        ]
    if part.masks is None and isinstance(part.images[0], bytes):
        first = images.fault_or(images.size_of)(part.images[0])
        size = (0, 0) if isinstance(first, images.Broken) else first
        if size[0] * size[1] * 3 * len(part) <= IN_MEMORY:
            return images.in_threads(images.fault_or(images.decoded), part.images)

    def inspected(i):
        size = images.size_of(part.images[i])
        if part.masks is None:
            return size, None
        mask = images.mask_of(part.masks[i])
        if mask.shape != size:
            raise images.Broken(
                f"{size[0]}x{size[1]} pixels, its mask {mask.shape[0]}x{mask.shape[1]}"
            )
        return size, np.bincount(mask.ravel(), minlength=256)

    return images.in_threads(images.fault_or(inspected), range(len(part)))


def _decoded(part, results):
    """The part, with pixels in the place of any bytes, and measured."""
    if not isinstance(results[0], np.ndarray):
        sizes, histograms = zip(*results, strict=True)
        counted = None if histograms[0] is None else np.stack(histograms)
        return replace(part, sizes=np.array(sizes), histograms=counted)
    sizes = np.array([result.shape[:2] for result in results])
    if (sizes == sizes[0]).all():
        part = replace(part, images=np.stack(results))
    return replace(part, sizes=sizes)


def _with_held_out(where, parts, seed):
    part = parts["train"]
    strata = np.zeros(len(part)) if part.labels is None else part.labels
    chosen = sampling.small_part(strata, HELD_OUT, seed)
    what = "hold images for evaluation, or two of a class to split some off"
    require(chosen.any(), where, what, f"{len(part)} images, none twice of a class")
    return {"train": part.only(~chosen), "validation": part.only(chosen)}


def _classes(contents, labels):
    """The names of the classes, of which every one is there."""
    named, samples = len(contents.class_names or ()), len(labels["train"])
    count = named or int(labels["train"].max()) + 1
    received = f"label {count - 1} and {samples} images"
    require(count <= max(samples, named), contents.where, _EVERY_CLASS, received)
    for name, values in labels.items():
        wrong = np.flatnonzero((values < 0) | (values >= count))
        if len(wrong):
            received = f"{values[wrong[0]]} at {wrong[0]} of {name}"
            raise fault(contents.where, f"hold labels from 0 to {count - 1}", received)
    names = contents.class_names or tuple(map(str, range(count)))
    _check_classes(contents, names, np.bincount(labels["train"], minlength=count))
    return names


def _check_classes(contents, names, counts, hint=""):
    where, received = contents.where, ", ".join(names) or "none"
    require(len(names) > 1, where, f"hold at least two classes{hint}", received)
    missing = [name for name, n in zip(names, counts, strict=True) if not n]
    received = f"none of {', '.join(missing[:5])}"
    require(not missing, where, _EVERY_CLASS, received)


def _labelling(contents, parts):
    """Names of the classes, the label `void`, and the label of each value of a mask."""
    counts = {name: part.histograms.sum(0) for name, part in parts.items()}
    void, names = contents.void, contents.class_names
    values = np.flatnonzero(counts["train"])
    if names is None:
        values = values[(values != VOID) & (values != void)]
        names = tuple(map(str, range(int(values.max(initial=-1)) + 1)))
    numbers = [i for i in range(len(names)) if i != void]
    for name, histogram in counts.items():
        allowed = {*numbers, VOID, void}
        for value in np.flatnonzero(histogram).tolist():
            if value not in allowed:
                part = parts[name]
                index = int(np.flatnonzero(part.histograms[:, value])[0])
                what = f"hold masks of labels from 0 to {len(names) - 1}, or void"
                received = f"{value} in the mask of {part.names[index]}"
                raise fault(contents.where, what, received)
    # It stays what it is, unless it stands among the classes.
    label = void if void is not None and void >= len(numbers) else VOID
    table = np.full(256, label, "uint8")
    table[numbers] = np.arange(len(numbers))
    names = tuple(names[i] for i in numbers)
    hint = f"; {VOID} in a mask is no class but void"
    _check_classes(contents, names, counts["train"][numbers], hint)
    return names, label, table


def _split(part, table, image_size):
    labels = None if part.labels is None else part.labels.astype("int32")
    if isinstance(part.images, np.ndarray):
        masks = part.masks if part.masks is None else table[part.masks]
        return ArraySplit(part.images, labels, masks, 255, image_size)
    return EncodedSplit(
        part.images, part.names, part.sizes, labels, part.masks, table, image_size
    )


def path_of(text: str) -> Path:
    """The path that a source names."""
    return Path(text).expanduser()
