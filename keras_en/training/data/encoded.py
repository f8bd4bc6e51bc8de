"""Images in files: batches by tf.data, which reads and decodes in parallel."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_en.arguments import check_installed
from keras_en.training.data import images, sampling
from keras_en.training.data.augmentation import Transform
from keras_en.training.data.transformations import RandomResizedCrop

# Encoded images that together are smaller stay in memory, in bytes.
CACHED = 1 << 29


class EncodedSplit:
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
        self._table, self.image_size = table, image_size
        self.labels = labels
        self.image_shape = common_shape(sizes, image_size)

    def __len__(self) -> int:
        return len(self._sources)

    def batches(
        self,
        batch_size: int,
        transform: Transform | None = None,
        seed: int | None = None,
        epoch: int = 0,
        limit: int | None = None,
    ) -> "EncodedBatches":
        """As `ArraySplit.batches`; the batches are tensors of TensorFlow.

        Raises:
            ValueError: See there; or images of different sizes are to be in one batch.
                While iterating: an image that is broken, with its name.
        """
        transform = Transform() if transform is None else transform
        sampling.checked(batch_size, transform, seed, epoch, limit)
        order = sampling.order(len(self), seed, epoch, limit)
        tf = tensorflow()
        # The number of a sample in the epoch is what its random numbers depend on.
        data = tf.data.Dataset.from_tensor_slices((order, np.arange(len(order))))
        read, labels = self._tensors

        def sample(index, position):
            mask = tf.constant(b"") if self._masks is None else read(1, index)
            return read(0, index), mask, tf.gather(labels, index), position

        data = data.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
        data = decoded(data, self, batch_size, transform, seed, epoch)
        steps = -(-len(order) // batch_size)

        def first_fault(batch):
            return self._first_fault(order[batch * batch_size :])

        return EncodedBatches(data, steps, first_fault)

    @property
    def has_masks(self) -> bool:
        return self._masks is not None

    @property
    def table(self) -> np.ndarray | None:
        return self._table

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
                if self._masks is not None:
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
        tf.config.set_visible_devices([], "GPU")
    return tf


def common_shape(sizes: np.ndarray, image_size: int | None) -> tuple:
    """`(H, W, 3)` of images, `None` for an axis on which sizes differ."""
    if image_size is not None:
        return image_size, image_size, 3
    height, width = (
        int(s[0]) if len(set(s)) == 1 else None for s in np.transpose(sizes)
    )
    return height, width, 3


def decoded(
    data: Any,
    split: Any,
    batch_size: int,
    transform: Transform,
    seed: int | None,
    epoch: int,
) -> Any:
    """Batches of `(images, labels or masks)`.

    Args:
        data: `tf.data.Dataset` of the bytes of an image and of a mask, a label, and the
            number of the sample in the epoch.
        split: Has `image_shape`, `image_size`, `has_masks` and `table`.
        batch_size, transform, seed, epoch: See `batches`.
    """
    tf = tensorflow()
    transform.check_fits(3, split.has_masks)
    transform = transform.sized(split.image_size)
    # The sizes of the files themselves are not known to the steps.
    files = split.image_shape if split.image_size is None else (None, None, 3)
    shape = transform.output_shape(files)
    if None in shape and batch_size > 1:
        raise ValueError(
            "Argument `batch_size` must be 1 where images differ in size; `image_size` "
            "brings them to one, or the steps random_resized_crop, "
            f"random_scale_crop or center_crop. Received: batch_size={batch_size}"
        )
    finish = _Finish(transform, split, seed, epoch)

    def sample(image, mask, label, position):
        image = _pixels(tf, image, position, finish)
        dtype = "float32" if finish.colours else "uint8"
        image, mask = tf.numpy_function(
            finish, [image, mask, position], [dtype, "uint8"], stateful=False
        )
        image.set_shape(shape)
        mask.set_shape(shape[:2] if split.has_masks else [0])
        return image, tf.cast(mask, "int32") if split.has_masks else label

    factor, summand = transform.scaling(255)

    def scaled(batch, labels):
        return tf.cast(batch, "float32") * factor + summand, labels

    data = data.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(batch_size).map(scaled, num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    return data.prefetch(tf.data.AUTOTUNE).with_options(options)


class _Finish:
    """All that Python does to a sample, behind and beside TensorFlow's decoding."""

    def __init__(self, transform, split, seed, epoch):
        self._transform, self._split = transform, split
        self._seed, self._epoch = seed, epoch
        self.colours = any(step.colour for step in transform.steps)
        first = transform.steps[0] if transform.steps else None
        crops = isinstance(first, RandomResizedCrop) and first.size is not None
        # Only the part of a JPEG that is needed is decoded.
        self.crop = first if crops and not split.has_masks else None

    def _uniform(self, position):
        shape = 1, self._transform.draws
        return sampling.uniform(self._seed, self._epoch, int(position), shape)

    def box(self, shape, position):
        """Top, left, height and width of the part that is needed, int32."""
        uniform = self._uniform(position)[:, : self.crop.draws]
        return self.crop.boxes(int(shape[0]), int(shape[1]), uniform)[0].astype("int32")

    def __call__(self, image, mask, position):
        masks = None
        if self._split.has_masks:
            masks = self._split.table[images.decoded_mask(mask)][None]
            if masks.shape[1:] != image.shape[:2]:
                raise images.Broken(f"mask {masks.shape[1:]}, image {image.shape[:2]}")
        batch = self._transform.apply(
            image[None], masks, self._uniform(position), skip_crop=self.crop is not None
        )
        empty = np.zeros(0, "uint8")
        return batch.images[0], empty if masks is None else batch.masks[0]


def _pixels(tf, data, position, finish):
    """The pixels of an encoded image, or of the part of it that is needed."""
    # As exact as Pillow, which decodes what is in memory.
    exact = dict(channels=3, dct_method="INTEGER_ACCURATE")

    def box(shape):
        arguments = [shape, position]
        return tf.numpy_function(finish.box, arguments, "int32", stateful=False)

    def jpeg():
        if finish.crop is None:
            return tf.io.decode_jpeg(data, **exact)
        part = tf.ensure_shape(box(tf.io.extract_jpeg_shape(data)), [4])
        return tf.image.decode_and_crop_jpeg(data, part, **exact)

    def other():
        whole = tf.numpy_function(images.decoded, [data], "uint8", stateful=False)
        if finish.crop is None:
            return whole
        part = tf.ensure_shape(box(tf.shape(whole)), [4])
        return whole[part[0] : part[0] + part[2], part[1] : part[1] + part[3]]

    image = tf.cond(tf.io.is_jpeg(data), jpeg, other)
    return tf.ensure_shape(image, [None, None, 3])
