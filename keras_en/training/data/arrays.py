"""Images in memory, of one shape: batches in NumPy, on any backend."""

import collections
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_en.training.data import sampling
from keras_en.training.data.augmentation import Transform

# Batches that are computed at the same time, and that may wait.
_WORKERS, _AHEAD = 2, 4


class ArraySplit:
    """Images `(N, H, W, C)`, uint8, with labels `(N,)` or masks `(N, H, W)`.

    Attributes:
        images, masks: uint8; `masks` is `None` where there are `labels`, int32.
        maximum: The value of white.
        image_size: What the images are resized to; `None`: as they are.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        masks: np.ndarray | None = None,
        maximum: float = 255,
        image_size: int | None = None,
    ):
        self.images, self.labels, self.masks = images, labels, masks
        self.maximum, self.image_size = maximum, image_size
        self.has_masks = masks is not None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple:
        """`(H, W, C)` of the images."""
        channels = self.images.shape[3]
        if self.image_size is None:
            return self.images.shape[1:]
        return self.image_size, self.image_size, channels

    def part(self, chosen: slice) -> "ArraySplit":
        """Some of the samples, as a split of their own."""
        labels, masks = (
            None if values is None else values[chosen]
            for values in (self.labels, self.masks)
        )
        images = self.images[chosen]
        return ArraySplit(images, labels, masks, self.maximum, self.image_size)

    def batches(
        self,
        batch_size: int,
        transform: Transform | None = None,
        seed: int | None = None,
        epoch: int = 0,
        limit: int | None = None,
    ) -> "ArrayBatches":
        """The batches of an epoch, `(images, labels)`: float32 and int32; the labels of
        masks are `(N, H, W)`.

        Args:
            batch_size: Samples a batch; the last one may be smaller.
            transform: `Transform`; `None`: images in [0, 1].
            seed: Integer, the seed of order and augmentation; every epoch has its own.
                `None`: in order, without random steps.
            epoch: Integer.
            limit: Use so many samples, the same in every epoch. `None`: all.

        Returns:
            `ArrayBatches`, which can be iterated over again.

        Raises:
            ValueError, TypeError: An argument is not among these, or the transform
                does not fit the images.

        Example:

        >>> import numpy as np
        >>> from keras_en.training.data import ArraySplit
        >>> images = np.array([0, 255, 255], "uint8").reshape(3, 1, 1, 1)
        >>> split = ArraySplit(images, np.array([7, 8, 9], "int32"))
        >>> [(x.ravel().tolist(), y.tolist()) for x, y in split.batches(2)]
        [([0.0, 1.0], [7, 8]), ([1.0], [9])]
        """
        transform = sampling.checked(self, batch_size, transform, seed, epoch, limit)
        return ArrayBatches(self, batch_size, transform, seed, epoch, limit)


class ArrayBatches:
    """The batches of an epoch; each can be computed by itself, and two threads compute
    them ahead of an iteration."""

    def __init__(self, split, batch_size, transform, seed, epoch, limit):
        self._split, self._batch_size, self._transform = split, batch_size, transform
        self._seed, self._epoch = seed, epoch
        self._order = sampling.order(len(split), seed, epoch, limit)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        split, size = self._split, self._batch_size
        chosen = self._order[number * size : (number + 1) * size]
        shape = len(chosen), self._transform.draws
        images, masks = self._transform(
            split.images[chosen],
            None if split.masks is None else split.masks[chosen],
            sampling.uniform(self._seed, self._epoch, number, shape),
            split.maximum,
        )
        return images, split.labels[chosen] if masks is None else masks

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        pending: collections.deque = collections.deque()
        pool = ThreadPoolExecutor(_WORKERS)
        try:
            for number in range(len(self)):
                pending.append(pool.submit(self.__getitem__, number))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Of an iteration that is left before its end, too.
            pool.shutdown(cancel_futures=True)
