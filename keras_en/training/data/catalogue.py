"""The data sets of tensorflow-datasets."""

import difflib
import functools
from typing import Any, NamedTuple

import numpy as np

from keras_en import files
from keras_en.arguments import check_installed, fault, require
from keras_en.text import one_line
from keras_en.training.data import encoded, images, sampling
from keras_en.training.data.parts import HELD_OUT, IN_MEMORY, VOID, Contents, Part

# Encoded examples among which the next one is drawn; files come in random order, too.
_SHUFFLED = 4096
# The label in training of each of Cityscapes' own, as its authors' scripts have it.
_CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light"),
    *("traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car"),
    *("truck", "bus", "train", "motorcycle", "bicycle"),
)


class _Masks(NamedTuple):
    """What a data set does not say of its masks: features, names of the classes, their
    values, and the splits whose masks are those of the data set."""

    image: str
    mask: str
    names: tuple
    values: tuple
    splits: tuple


# What tensorflow-datasets calls scene_parse150 are the instances of the challenge of
# 2017, of 100 classes: the class is the first channel, 0 is none. The masks of all 150
# classes are in the folder ADEChallengeData2016.
MASKS = {
    "cityscapes": _Masks(
        "image_left",
        "segmentation_label",
        _CITYSCAPES_NAMES,
        _CITYSCAPES,
        ("train", "validation"),
    ),
    "scene_parse150": _Masks(
        "image",
        "annotation",
        tuple(map(str, range(1, 101))),
        tuple(range(1, 101)),
        ("train", "test"),
    ),
}


def contents(text: str, data_dir: str | None, image_size: int | None) -> Contents:
    """The contents of `NAME` or `NAME/config`: small images of one size as arrays,
    others as splits that are read while training."""
    # The first one imports the second one and does not ask for it.
    packages = ["tensorflow_datasets", "importlib_resources"]
    check_installed(f"The data set {text}", packages, "train")
    encoded.tensorflow()
    where = f"The data set {text}"
    builder = _builder(where, text, data_dir)
    keys = _keys(where, builder)
    splits = {
        name: name
        for name in ("train", "validation", "test")
        if name in builder.info.splits and builder.info.splits[name].num_examples
    }
    received = ", ".join(builder.info.splits)
    require("train" in splits, where, "have a split train", received)
    if keys.masks is not None:
        splits = {name: name for name in splits if name in keys.masks.splits}
    features = builder.info.features
    shape = features[keys.image].shape
    total = sum(builder.info.splits[name].num_examples for name in splits)
    fixed = None not in shape and keys.masks is None
    names = keys.masks.names if keys.masks else tuple(features[keys.label].names)
    if fixed and np.prod(shape) * total <= IN_MEMORY:
        parts = {name: _part(where, builder, name, keys) for name in splits}
        # Where the labels of a contest's test are secret they are -1.
        parts = {n: p for n, p in parts.items() if n == "train" or p.labels.min() >= 0}
        return Contents(where, parts, names)
    if len(splits) == 1:
        share = round(100 * (1 - HELD_OUT))
        splits = {"train": f"train[:{share}%]", "validation": f"train[{share}%:]"}
    ready = {
        name: StreamSplit(where, builder, split, keys, image_size)
        for name, split in splits.items()
    }
    ready = {n: s for n, s in ready.items() if n == "train" or s.has_labels()}
    return Contents(where, {}, names, None if keys.masks is None else VOID, ready)


class _Keys(NamedTuple):
    """The features of images and of labels or masks."""

    image: str
    label: str
    masks: _Masks | None


def _builder(where, text, data_dir):
    """A builder whose data set is there."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(text, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        name = text.split("/")[0].split(":")[0]
        close = difflib.get_close_matches(name, tfds.list_builders(), 3)
        meant = f"; the nearest are {', '.join(close)}" if close else ""
        what = f"be one of tensorflow-datasets, or lie in the data_dir{meant}"
        raise fault(where, what, f"tfds:{text}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{where} cannot be opened: {one_line(error)}") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # every builder has its own
        if isinstance(error, OSError) and files.cannot_write(error):
            text = f"{builder.data_dir} cannot be written: {error.strerror}"
            raise files.CannotWrite(text) from error
        raise ValueError(f"{where} cannot be prepared: {one_line(error)}") from error
    return builder


def _keys(where, builder):
    import tensorflow_datasets as tfds

    masks = MASKS.get(builder.name)
    features = builder.info.features
    if masks is not None and masks.mask in features:
        return _Keys(masks.image, masks.mask, masks)
    pair = builder.info.supervised_keys
    if not pair or not all(isinstance(key, str) for key in pair):
        pair = [
            next((k for k, f in features.items() if isinstance(f, kind)), None)
            for kind in (tfds.features.Image, tfds.features.ClassLabel)
        ]
    kinds = [type(features[key]).__name__ if key else None for key in pair]
    labels = pair[1] and isinstance(features[pair[1]], tfds.features.ClassLabel)
    pictures = pair[0] and isinstance(features[pair[0]], tfds.features.Image)
    fits = labels and pictures and features[pair[0]].np_dtype == np.uint8
    received = f"{', '.join(map(str, kinds))} of {', '.join(features)}"
    require(fits, where, "have an Image, uint8, and a ClassLabel", received)
    return _Keys(pair[0], pair[1], None)


def _part(where, builder, split, keys):
    """A split whose images are in memory."""
    import tensorflow_datasets as tfds

    data = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
    arrays = tfds.as_numpy(data)
    pixels, labels = arrays[keys.image], arrays[keys.label].astype("int64")
    names = [f"{where}, {split}[{i}]" for i in range(len(pixels))]
    order = _own_order(arrays.get("id"))
    if order is not None:
        pixels, labels = pixels[order], labels[order]
    return Part(pixels, labels, None, names, ordered=order is not None)


def _own_order(identifiers):
    """The order that the data set had before it was written, from identifiers that end
    in a number, such as `train_00017`; otherwise `None`."""
    try:
        numbers = np.array([int(i.rpartition(b"_")[2]) for i in identifiers])
    except (TypeError, ValueError, AttributeError):
        return None
    distinct = len(set(numbers.tolist())) == len(numbers)
    return np.argsort(numbers) if distinct else None


class StreamSplit(sampling.Images):
    """A split that is read from the records of tensorflow-datasets, in which order and
    speed they lie; each epoch and seed has its own order of files and examples."""

    def __init__(
        self, where: str, builder: Any, split: str, keys: _Keys, image_size: int | None
    ):
        self._where, self._builder, self._split = where, builder, split
        self._keys, self.image_size = keys, image_size
        self.has_masks = keys.masks is not None
        shape = builder.info.features[keys.image].shape[:2]
        size = shape if image_size is None else (image_size, image_size)
        self.image_shape = (*size, 3)
        self.table = None
        if keys.masks is not None:
            self.table = np.full(256, VOID, "uint8")
            self.table[list(keys.masks.values)] = np.arange(len(keys.masks.values))

    def __len__(self) -> int:
        return self._builder.info.splits[self._split].num_examples

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """`(N,)`, int32, in the order of evaluation, read from all records; `None`
        where there are masks."""
        if self.has_masks:
            return None
        data = self._examples(None, 0)
        return np.array([int(e[2]) for e in data.as_numpy_iterator()], "int32")

    def has_labels(self) -> bool:
        """Whether they are not secret, as those of a contest's test are."""
        if self.has_masks:
            return True
        return next(int(e[2]) >= 0 for e in self._examples(None, 0).take(1))

    def _batches(self, draw):
        """`limit` is the first so many of the records."""
        tf = encoded.tensorflow()
        count = min(draw.limit or len(self), len(self))
        chosen = None if draw.seed is None else int(_seed_of(draw.seed, draw.epoch))
        data = self._examples(None if count < len(self) else chosen, count)
        if chosen is not None:
            data = data.shuffle(
                min(count, _SHUFFLED), seed=chosen, reshuffle_each_iteration=False
            )
        data = data.apply(tf.data.experimental.assert_cardinality(count))
        crop = encoded.crop_of(draw.transform, self.has_masks)
        draws = crop.draws if crop else 0
        row = sampling.uniform_rows(draw.seed, draw.epoch, draws)

        def box(image, position):
            size = np.array([images.size_of(image)])
            return crop.boxes(size, row(position))[0].astype("int32")

        def sample(position, example):
            image, part = example[0], tf.zeros(4, "int32")
            if crop is not None:
                part = tf.numpy_function(
                    box, [image, position], "int32", stateful=False
                )
                part = tf.ensure_shape(part, [4])
            return (*example, position, part)

        data = encoded.batched(encoded.mapped(data.enumerate(), sample), self, draw)
        steps = -(-count // draw.batch_size)
        return encoded.EncodedBatches(
            data, steps, lambda batch: f"{self._where}, batch {batch}"
        )

    def _examples(self, seed, count):
        """`tf.data.Dataset` of the bytes of an image and of its mask, and a label."""
        import tensorflow_datasets as tfds

        tf = encoded.tensorflow()
        keys = self._keys
        skip = {keys.image: tfds.decode.SkipDecoding()}
        if self.has_masks:
            skip[keys.label] = tfds.decode.SkipDecoding()
        data = self._builder.as_dataset(
            split=self._split,
            decoders=skip,
            shuffle_files=seed is not None,
            read_config=tfds.ReadConfig(
                shuffle_seed=seed,
                shuffle_reshuffle_each_iteration=False,
                try_autocache=False,
            ),
        )

        def parts(example):
            label = example[keys.label]
            if self.has_masks:
                return example[keys.image], label, tf.constant(0)
            return example[keys.image], tf.constant(b""), tf.cast(label, "int32")

        return encoded.mapped(data.take(count) if count else data, parts)


def _seed_of(seed, epoch):
    return np.random.SeedSequence([seed, epoch]).generate_state(1)[0] // 2
