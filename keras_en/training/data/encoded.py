"""Images in files: batches by tf.data, which reads and decodes in parallel."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_en.arguments import check, check_installed
from keras_en.training.data import images, sampling
from keras_en.training.data.augmentation import Transform
from keras_en.training.data.transformations import RandomResizedCrop, Resize

# Encoded images that together are smaller stay in memory, in bytes.
CACHED = 1 << 29
# Streams of random numbers; that of the parts that `crop_of` needs is 0.
_SAMPLES, _BATCHES = 1, 2


class EncodedSplit(sampling.Images):
    """Images in files, or in memory as the bytes of files, with labels or masks.

    Attributes:
        labels: `(N,)`, int32, or `None` where there are masks.
        image_shape: `(H, W, 3)`, with `None` where sizes differ.
    """

    def __init__(
        self,
        sources: list,
        names: list[str],
        sizes: np.ndarray,
        labels: np.ndarray | None = None,
        masks: list | None = None,
        table: np.ndarray | None = None,
        image_size: int | None = None,
    ):
        """`sources` and `masks` are paths or bytes, `sizes` `(N, 2)`; the table has the
        label of each value of a mask."""
        self._sources, self._names, self._masks = sources, names, masks
        self._sizes, self.table, self.image_size = sizes, table, image_size
        self.labels, self.has_masks = labels, masks is not None
        self.image_shape = _common_shape(sizes, image_size)

    def __len__(self) -> int:
        return len(self._sources)

    def _batches(self, draw):
        _output_shape(self, draw)  # before a file is read
        order = sampling.order(len(self), draw.seed, draw.epoch, draw.limit)
        tf = tensorflow()
        # The number of a sample in the epoch is what its random numbers depend on.
        positions, boxes = np.arange(len(order)), self._boxes(order, draw)
        data = tf.data.Dataset.from_tensor_slices((order, positions, boxes))
        read, labels = self._tensors

        def sample(index, position, box):
            mask = read(1, index) if self.has_masks else tf.constant(b"")
            return read(0, index), mask, tf.gather(labels, index), position, box

        data = batched(mapped(data, sample), self, draw)

        def first_fault(batch):
            return self._first_fault(order[batch * draw.batch_size :])

        return EncodedBatches(data, -(-len(order) // draw.batch_size), first_fault)

    def _boxes(self, order, draw):
        """What `crop_of` needs of each image, `(N, 4)`, int32."""
        boxes = np.zeros((len(order), 4), "int32")
        crop = crop_of(draw.transform, self.has_masks)
        if crop is not None:
            for start in range(0, len(order), 1 << 16):
                sizes = self._sizes[order[start : start + (1 << 16)]]
                shape = len(sizes), crop.draws
                uniform = sampling.uniform(draw.seed, draw.epoch, start, shape)
                boxes[start : start + len(sizes)] = crop.boxes(sizes, uniform)
        return boxes

    @functools.cached_property
    def _tensors(self):
        """A function of what (0: images, 1: masks) and the number of a sample, to its
        bytes; and the labels."""
        tf = tensorflow()
        lists = [self._sources, self._masks or []]
        paths = [isinstance(values and values[0], Path) for values in lists]
        for i, values in enumerate(lists):
            if paths[i] and sum(p.stat().st_size for p in values) <= CACHED:
                paths[i] = False
                lists[i] = images.in_threads(Path.read_bytes, values)
            elif paths[i]:
                lists[i] = [str(path) for path in values]
        tensors = [tf.constant(values or [b""]) for values in lists]
        count = len(self)
        labels = np.zeros(count, "int32") if self.labels is None else self.labels

        def read(which, index):
            value = tf.gather(tensors[which], index)
            return tf.io.read_file(value) if paths[which] else value

        return read, tf.constant(labels)

    def _first_fault(self, numbers):
        """What is wrong with the first broken image among these samples."""
        for number in numbers:
            source = self._sources[number]
            try:
                images.decoded(
                    source if isinstance(source, bytes) else source.read_bytes()
                )
                if self.has_masks:
                    images.mask_of(self._masks[number])
            except (images.Broken, OSError) as error:
                return f"{self._names[number]}: {error}"
        return None


class EncodedBatches:
    """The batches of an epoch; `dataset` is the `tf.data.Dataset` behind them."""

    def __init__(self, dataset, steps, first_fault):
        self.dataset, self._steps, self._first_fault = dataset, steps, first_fault

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        tf = tensorflow()
        number = 0
        try:
            for number, batch in enumerate(self.dataset, start=1):  # noqa: B007
                yield batch
        except tf.errors.OpError as error:
            fault = self._first_fault(number)
            if fault is None:
                raise
            raise ValueError(f"An image cannot be read: {fault}") from error


def tensorflow() -> Any:
    """TensorFlow, which on another backend leaves that its GPUs."""
    check_installed("Training on files of images", ["tensorflow"])
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # they are in use already
            tf.config.set_visible_devices([], "GPU")
    return tf


def mapped(data: Any, function: Callable) -> Any:
    """`data.map`, in parallel, of a function that is read as it is."""
    tf = tensorflow()
    plain = tf.autograph.experimental.do_not_convert(function)
    return data.map(plain, num_parallel_calls=tf.data.AUTOTUNE)


def _common_shape(sizes, image_size):
    """`(H, W, 3)` of images, `None` for an axis on which sizes differ."""
    if image_size is not None:
        return image_size, image_size, 3
    height, width = (
        int(s[0]) if len(set(s)) == 1 else None for s in np.transpose(sizes)
    )
    return height, width, 3


def batched(data: Any, split: sampling.Images, draw: sampling.Draw) -> Any:
    """Batches of `(images, labels or masks)`.

    Args:
        data: `tf.data.Dataset` of the bytes of an image and of a mask, a label, the
            number of the sample in the epoch, and the part of the image that
            `crop_of` needs, or nothing.
        split: Has a `table`, the label of each value of a mask.
        draw: What of it is drawn.
    """
    tf = tensorflow()
    shape = _output_shape(split, draw)
    alone, together = draw.transform.stages(None not in _file_shape(split))
    sample = _Sample(alone, split, draw)
    data = mapped(data, sample.in_graph).batch(draw.batch_size).enumerate()

    def augmented(number, batch):
        masks = batch[1] if split.has_masks else None
        size = len(batch[0]), together.draws
        uniform = sampling.uniform(draw.seed, draw.epoch, number, size, _BATCHES)
        result = together.apply(batch[0], masks, uniform)
        return result.images, batch[1] if masks is None else result.masks

    factor, summand = draw.transform.scaling(255)
    types = draw.transform.dtype, sample.label_dtype

    def finished(number, batch):
        images, labels = batch
        if together.steps:
            images, labels = tf.numpy_function(
                lambda number, *batch: augmented(number, batch),
                [number, images, labels],
                types,
                stateful=False,
            )
            images.set_shape((None, *shape))
            labels.set_shape((None, *shape[:2]) if split.has_masks else (None,))
        images = tf.cast(images, "float32") * factor + summand
        return images, tf.cast(labels, "int32")

    data = mapped(data, finished)
    options = tf.data.Options()
    options.deterministic = True
    return data.prefetch(tf.data.AUTOTUNE).with_options(options)


def crop_of(transform: Transform, has_masks: bool) -> RandomResizedCrop | None:
    """The first step, where it needs but a part of each image: only that part of a
    JPEG is decoded."""
    first = transform.steps[0] if transform.steps else None
    if isinstance(first, RandomResizedCrop) and first.size and not has_masks:
        return first
    return None


def _file_shape(split):
    """The shape of the images as they are."""
    return split.image_shape if split.image_size is None else (None, None, 3)


def _output_shape(split, draw):
    """The shape of the results."""
    shape = draw.transform.output_shape(_file_shape(split))
    allowed = (
        "1 where images differ in size; `image_size` brings them to one, or the steps "
        "random_resized_crop, random_scale_crop or center_crop"
    )
    fits = None not in shape or draw.batch_size == 1
    check(fits, "batch_size", allowed, draw.batch_size)
    return shape


class _Sample:
    """All that is done to a sample by itself."""

    def __init__(self, transform, split, draw):
        self._crop = crop_of(transform, split.has_masks)
        if self._crop is not None:
            # Its part is cut when it gets here.
            resize = Resize((self._crop.size, self._crop.size))
            transform = replace(transform, steps=(resize, *transform.steps[1:]))
        self._transform, self._split = transform, split
        self._row = sampling.uniform_rows(
            draw.seed, draw.epoch, transform.draws, _SAMPLES
        )
        self.label_dtype = "uint8" if split.has_masks else "int32"
        self._shape = transform.output_shape(_file_shape(split))

    def in_graph(self, data, mask, label, position, box):
        """The image and the label or mask, tensors."""
        tf = tensorflow()
        image = _pixels(tf, data, box if self._crop else None)
        steps = self._transform.steps
        if self._split.has_masks or len(steps) > 1:
            image, mask = self._in_python(tf, image, mask, position)
        elif steps:
            # Of one step that brings images to one size TensorFlow does what it does
            # as Pillow, and faster: it has no filter for smaller images that is both.
            larger = tf.constant(False)
            if isinstance(steps[0], Resize) and None not in self._shape:
                larger = tf.reduce_all(tf.shape(image)[:2] <= self._shape[:2])
            image = tf.cond(
                larger,
                lambda: _enlarged(tf, image, self._shape[:2]),
                lambda: self._in_python(tf, image, mask, position)[0],
            )
        image.set_shape(self._shape)
        if not self._split.has_masks:
            return image, label
        mask.set_shape(self._shape[:2])
        return image, mask

    def _in_python(self, tf, image, mask, position):
        types = self._transform.dtype, "uint8" if self._split.has_masks else tf.string
        arguments = [image, mask, position]
        return tf.numpy_function(self.in_numpy, arguments, types, stateful=False)

    def in_numpy(self, image, mask, position):
        masks = None
        if self._split.has_masks:
            masks = self._split.table[images.decoded_mask(mask)][None]
            if masks.shape[1:] != image.shape[:2]:
                raise images.Broken(f"mask {masks.shape[1:]}, image {image.shape[:2]}")
        batch = self._transform.apply(image[None], masks, self._row(position))
        return batch.images[0], mask if masks is None else batch.masks[0]


def _pixels(tf, data, box):
    """The pixels of an encoded image, or of a part of it."""
    # As exact as Pillow, which decodes what is in memory.
    exact = dict(channels=3, dct_method="INTEGER_ACCURATE")

    def jpeg():
        if box is None:
            return tf.io.decode_jpeg(data, **exact)
        return tf.image.decode_and_crop_jpeg(data, box, **exact)

    def other():
        whole = tf.numpy_function(images.decoded, [data], "uint8", stateful=False)
        if box is None:
            return whole
        return whole[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]

    image = tf.cond(tf.io.is_jpeg(data), jpeg, other)
    return tf.ensure_shape(image, [None, None, 3])


def _enlarged(tf, image, size):
    return tf.cast(tf.round(tf.image.resize(image, size)), "uint8")
