"""Images in memory, of one shape: batches in NumPy, on any backend."""

import collections
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_en.training.data import sampling

# Batches that are computed at the same time, and that may wait.
_WORKERS, _AHEAD = 2, 4


class ArraySplit(sampling.Images):
    """Images `(N, H, W, C)`, uint8, with labels `(N,)` or masks `(N, H, W)`.

    Attributes:
        images, masks: uint8; `masks` is `None` where there are `labels`, int32.
        maximum: The value of white.
        image_size: What the images are resized to; `None`: as they are.
        image_shape: `(H, W, C)` of the images, then.
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
        size = images.shape[1:3] if image_size is None else (image_size, image_size)
        self.image_shape = (*size, images.shape[3])

    def __len__(self) -> int:
        return len(self.images)

    def part(self, chosen: np.ndarray) -> "ArraySplit":
        """Some of the samples, as a split of their own."""
        labels, masks = (
            None if values is None else values[chosen]
            for values in (self.labels, self.masks)
        )
        images = self.images[chosen]
        return ArraySplit(images, labels, masks, self.maximum, self.image_size)

    def _batches(self, draw):
        return ArrayBatches(self, draw)


class ArrayBatches:
    """The batches of an epoch; each can be computed by itself, and two threads compute
    them ahead of an iteration."""

    def __init__(self, split, draw):
        self._split, self._draw = split, draw
        self._order = sampling.order(len(split), draw.seed, draw.epoch, draw.limit)

    def __len__(self) -> int:
        return -(-len(self._order) // self._draw.batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        split, draw = self._split, self._draw
        start = number * draw.batch_size
        chosen = self._order[start : start + draw.batch_size]
        shape = len(chosen), draw.transform.draws
        images, masks = draw.transform(
            split.images[chosen],
            None if split.masks is None else split.masks[chosen],
            sampling.uniform(draw.seed, draw.epoch, number, shape),
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
