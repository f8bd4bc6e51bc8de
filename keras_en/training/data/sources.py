"""Where training images come from, by one line of text."""

import warnings
from typing import NamedTuple

import numpy as np

from keras_en.arguments import check, fault, integer, refused, require
from keras_en.training.data import catalogue, folders, npz, parts
from keras_en.training.data.arrays import ArraySplit
from keras_en.training.data.augmentation import LARGEST_SIDE
from keras_en.training.data.catalogue import StreamSplit
from keras_en.training.data.digits import digits
from keras_en.training.data.encoded import EncodedSplit

FORMS = "digits, tfds:NAME[/config], folder:PATH, list:FILE[,FILE] or npz:PATH"
_WITH_TEXT = ("tfds", "folder", "list", "npz")


class Data(NamedTuple):
    """Images for training.

    - `splits`: "train", and "validation", "test" or both.
    - `class_names`: by label.
    - `task`: "classification" or "segmentation".
    - `void`: the label of pixels that count nowhere, or `None`.
    - `skipped`: of each image that was left out, its name and why.
    """

    splits: dict[str, ArraySplit | EncodedSplit | StreamSplit]
    class_names: tuple[str, ...]
    task: str
    void: int | None
    skipped: list[str]


def load(
    source: str,
    *,
    labels: str | None = None,
    data_dir: str | None = None,
    image_size: int | None = None,
    skip_broken: bool = False,
    seed: int = 0,
    split_off: bool = True,
) -> Data:
    """Finds images and checks them, before training.

    | source | |
    |---|---|
    | `digits` | scikit-learn's, 8x8 |
    | `tfds:NAME`, `tfds:NAME/config` | of tensorflow-datasets, prepared if need be |
    | `folder:PATH` | one folder per class, or folders `images` and `masks`, at the \
top or in `train`, `val` and `test` |
    | `list:FILE`, `list:FILE,FILE` | one path and label per line, for training \
and validation |
    | `npz:PATH` | arrays, or packed JPEG, see `keras_en.training.data.npz` |

    Of a source without validation and test images a fifth of each class becomes
    "validation". Names of classes and the void label of masks are read from
    `classes.txt` in the folder, a line a label, the void one called `void`; 255 is void
    in any mask.

    Images in files are looked at: their format, mode and size, their beginning and
    end; masks whole. Packed JPEG is decoded once, here.

    Args:
        source: See above.
        labels: `npz:PATH:key`, labels in the place of the training labels, in the same
            order: of files that of their paths, of a data set of tensorflow-datasets
            that of its identifiers.
        data_dir: Folder of tensorflow-datasets, or of the paths of a list.
        image_size: Integer: images are brought to such a square, unless a step of the
            transform decides their size. `None`: they are as they are.
        skip_broken: Whether to leave out images that are broken.
        seed: Integer, the seed of what is split off.
        split_off: `False`: nothing is; all images of such a source are "train".

    Returns:
        `Data`.

    Raises:
        RuntimeError: A package is missing.
        ValueError: The source is none of these, or has a fault; it names the file.

    Example:

    >>> from keras_en.training.data import Transform, load
    >>> data = load("digits", seed=0)
    >>> train = data.splits["train"]
    >>> len(train), train.image_shape, data.task, data.class_names[-1]
    (1257, (8, 8, 1), 'classification', '9')
    >>> images, labels = next(iter(train.batches(64, Transform.of(["flip"]), seed=0)))
    >>> images.shape, images.dtype, labels.dtype
    ((64, 8, 8, 1), dtype('float32'), dtype('int32'))
    """
    if image_size is not None:
        fits = 1 <= integer("image_size", image_size) <= LARGEST_SIDE
        check(fits, "image_size", f"from 1 to {LARGEST_SIDE}", image_size)
    integer("seed", seed, minimum=0)
    check(isinstance(source, str), "source", FORMS, source)
    if not is_source(source):
        raise refused("source", FORMS, repr(source))
    kind, _, text = source.partition(":")
    if kind == "digits":
        check(labels is None, "labels", "None where the source is digits", labels)
        return _digits(seed, image_size)
    if kind == "tfds":
        contents = catalogue.contents(text, data_dir, image_size)
    elif kind == "folder":
        contents = folders.contents(text)
    elif kind == "list":
        contents = folders.from_list(text, data_dir)
    else:
        contents = npz.contents(text)
    if labels is not None:
        _replace_labels(contents, labels)
    splits, names, void, skipped = parts.settled(
        contents, image_size, skip_broken, seed if split_off else None
    )
    task = "classification" if void is None else "segmentation"
    return Data(splits, names, task, void, skipped)


def is_source(text: str) -> bool:
    """Whether it has one of the `FORMS`."""
    kind, _, rest = text.partition(":")
    return text == "digits" or (kind in _WITH_TEXT and bool(rest))


def path_and_key(labels: str) -> tuple[str, str] | None:
    """Those of `npz:PATH:key`; `None` of another text."""
    kind, _, rest = labels.partition(":")
    path, _, key = rest.rpartition(":")
    return (path, key) if kind == "npz" and path and key else None


def _digits(seed, image_size):
    splits = {
        # Of 16 steps of grey; a multiple of 1 / 16 is exact.
        name: ArraySplit(
            (split.images * 16).astype("uint8"),
            split.labels,
            maximum=16,
            image_size=image_size,
        )
        for name, split in digits(seed).items()
    }
    return Data(splits, tuple(map(str, range(10))), "classification", None, [])


def _replace_labels(contents, text):
    """Puts the labels of a file in the place of the training labels."""
    place = path_and_key(text)
    check(place, "labels", "npz:PATH:key", text)
    path, key = place
    part = contents.parts.get("train")
    fits = part is not None and part.labels is not None and part.ordered
    allowed = (
        "None where images are streamed, have masks or are in no order of their own"
    )
    check(fits, "labels", allowed, text)
    where = f"The file {path}"
    with npz.opened(parts.path_of(path)) as file:
        values = npz.labels_of(where, npz.array(where, file, key), key)
    what = f"hold a label for each of {len(part)} training images"
    require(len(values) == len(part), where, what, f"{len(values)} in {key}")
    before, part.labels = part.labels, values
    highest = before.max(initial=0)
    if values.min(initial=0) < 0 or values.max(initial=0) > highest:
        what = f"hold labels from 0 to {highest}, as the source does"
        raise fault(where, what, f"{values.min()} to {values.max()} in {key}")
    same = np.mean(before == values)
    if same < 2 / (1 + highest):
        warnings.warn(
            f"{where}: {key} agrees with the labels of the source in {same:.1%} of "
            "the images: are they in another order?",
            stacklevel=3,
        )
