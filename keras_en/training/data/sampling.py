"""Which samples are drawn, and the random numbers that they get."""

import abc
import functools
from typing import Any, NamedTuple

import numpy as np

from keras_en.arguments import check, integer
from keras_en.training.data.augmentation import Transform

# Samples whose random numbers are drawn together.
BLOCK = 256


class Draw(NamedTuple):
    """The arguments of `Images.batches`, checked; the transform brings images to the
    size of the split."""

    batch_size: int
    transform: Transform
    seed: int | None
    epoch: int
    limit: int | None


class Images(abc.ABC):
    """A split, of which batches are drawn.

    Attributes:
        image_shape: `(H, W, C)`, with `None` where sizes differ.
        image_size: What the images are resized to; `None`: as they are.
        has_masks: Whether there are masks, in the place of labels.
    """

    image_shape: Any
    image_size: int | None
    has_masks: bool

    def batches(
        self,
        batch_size: int,
        transform: Transform | None = None,
        seed: int | None = None,
        epoch: int = 0,
        limit: int | None = None,
    ) -> Any:
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
            Batches with a length, which can be iterated over again: arrays of NumPy;
            of files of images tensors of TensorFlow.

        Raises:
            ValueError, TypeError: An argument is not among these, or the transform
                does not fit the images; or images of different sizes are to be in one
                batch. While iterating: an image that is broken, with its name.

        Example:

        >>> import numpy as np
        >>> from keras_en.training.data import ArraySplit
        >>> images = np.array([0, 255, 255], "uint8").reshape(3, 1, 1, 1)
        >>> split = ArraySplit(images, np.array([7, 8, 9], "int32"))
        >>> [(x.ravel().tolist(), y.tolist()) for x, y in split.batches(2)]
        [([0.0, 1.0], [7, 8]), ([1.0], [9])]
        """
        transform = Transform() if transform is None else transform
        integer("batch_size", batch_size, minimum=1)
        integer("epoch", epoch, minimum=0)
        if limit is not None:
            integer("limit", limit, minimum=1)
        if seed is not None:
            integer("seed", seed, minimum=0)
        allowed = "an integer where steps of the transform are random"
        check(seed is not None or not transform.draws, "seed", allowed, seed)
        transform.check_fits(self.image_shape[2], self.has_masks)
        transform = transform.sized(self.image_size)
        return self._batches(Draw(batch_size, transform, seed, epoch, limit))

    @abc.abstractmethod
    def _batches(self, draw):
        """The batches of a `Draw`."""


def order(count, seed, epoch, limit):
    """The numbers of the samples of an epoch.

    Args:
        count: Samples of the split.
        seed: Integer, of the order of all epochs; `None`: as they are.
        epoch: Integer.
        limit: At most so many, the same in every epoch and for every seed.
    """
    numbers = np.arange(count)
    if limit is not None and limit < count:
        numbers = np.sort(np.random.default_rng(0).permutation(count)[:limit])
    if seed is None:
        return numbers
    return np.random.default_rng([seed, epoch]).permutation(numbers)


def uniform(seed, epoch, number, shape, stream=0):
    """Random numbers in [0, 1) of a batch or sample of an epoch: whoever computes it,
    and whatever came before, they are the same. What is not to have the same numbers
    has another `stream`, an integer."""
    # The seeds [s, e] and [s, e, 0] are one.
    key = [0, epoch] if seed is None else [seed, epoch, 1 + number, stream]
    return np.random.default_rng(key).random(shape)


def uniform_rows(seed, epoch, draws, stream=0):
    """A function of the number of a sample: its row of random numbers, `(1, n)`.

    Rows come in blocks: a generator for each would take longer than most steps.

    Args:
        seed, epoch, stream: As above.
        draws: `n`.
    """

    @functools.lru_cache(maxsize=64)
    def block(number):
        return uniform(seed, epoch, number, (BLOCK, draws), stream)

    def row(sample):
        number, inside = divmod(int(sample), BLOCK)
        return block(number)[inside : inside + 1]

    return row


def sized_part(strata, count, size, seed):
    """Whether each of `count` samples belongs to a part of `size`: of every class as
    many as its share, but for rounding. `strata` as in `small_part`, or `None`."""
    order = np.random.default_rng(seed).permutation(count)
    if strata is not None:
        order = order[np.argsort(np.asarray(strata)[order], kind="stable")]
    chosen = np.zeros(count, bool)
    # Evenly through the classes, one behind the other.
    chosen[order[(np.arange(size) * count) // size]] = True
    return chosen


def small_part(strata, share, seed):
    """Whether each sample belongs to a part that is split off.

    Args:
        strata: Array of the samples' classes: of each at most `share` goes, rounded, at
            least one sample and never all.
        share: Number in (0, 1).
        seed: Integer.
    """
    chosen = np.zeros(len(strata), bool)
    generator = np.random.default_rng(seed)
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        size = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[members[:size]] = True
    return chosen
