"""What can be done to images and their masks, a batch at a time, in NumPy.

Every step is a function of the images and of uniform random numbers, a row a sample:
the same numbers give the same images wherever they are computed.
"""

import abc
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from keras_en.training.data.images import pictures

# Of ImageNet's colours in [0, 1]: the values and vectors that AlexNet's lighting uses.
_PCA_VALUES = np.array([0.2175, 0.0188, 0.0045])
_PCA_VECTORS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)
_GREY = np.array([0.299, 0.587, 0.114], "float32")
_ATTEMPTS = 10


@dataclass(frozen=True)
class Batch:
    """Images of one shape, and what belongs to them.

    Attributes:
        images: `(N, H, W, C)`, uint8, or float32 behind a step of colour.
        masks: `(N, H, W)`, uint8, or `None`.
        maximum: The value of white.
        fill: `(C,)`, what `RandomScaleCrop` puts outside of an image.
        void: What all put outside of a mask, or `None`.
    """

    images: np.ndarray
    masks: np.ndarray | None = None
    maximum: float = 255
    fill: Any = 0
    void: int | None = None


@dataclass(frozen=True)
class Step(abc.ABC):
    """One step.

    - `draws`: the uniform random numbers that a sample needs.
    - `resizes`: whether it interpolates, or decides the size.
    - `pads`: whether it may need something outside of the image.
    - `colour`: whether images are of colours, and float32 behind it.
    """

    draws: ClassVar[int] = 0
    resizes: ClassVar[bool] = False
    pads: ClassVar[bool] = False
    colour: ClassVar[bool] = False

    def shape(self, height: int | None, width: int | None) -> tuple:
        """The size of the results; `None` where it is that of each."""
        return height, width

    @abc.abstractmethod
    def apply(self, batch: Batch, uniform: np.ndarray) -> Batch:
        """The batch behind the step; `uniform` is `(N, draws)`, numbers in [0, 1)."""


@dataclass(frozen=True)
class PadCrop(Step):
    """Moves by up to `pixels`, each way and axis; what is left empty is black."""

    pixels: int
    draws = 2
    pads = True

    def apply(self, batch, uniform):
        height, width = batch.images.shape[1:3]
        n = self.pixels
        tops, lefts = np.floor(uniform.T * (2 * n + 1)).astype(int) - n
        return _windows(batch, tops, lefts, height, width, 0)


@dataclass(frozen=True)
class Flip(Step):
    """Left and right change places in every second image."""

    draws = 1

    def apply(self, batch, uniform):
        chosen = uniform[:, 0] < 0.5

        def flipped(values):
            if values is None:
                return None
            values = values.copy()
            values[chosen] = values[chosen, :, ::-1]
            return values

        return replace(batch, images=flipped(batch.images), masks=flipped(batch.masks))


@dataclass(frozen=True)
class Resize(Step):
    """To a short side, or to `(height, width)`: bilinear, over all pixels that a
    smaller image covers, as Pillow and torchvision do; masks by the nearest."""

    size: int | tuple[int, int]
    resizes = True

    def shape(self, height, width):
        if isinstance(self.size, tuple):
            return self.size
        if height is None or width is None:
            return None, None
        if height < width:
            return self.size, int(self.size * width / height)
        return int(self.size * height / width), self.size

    def apply(self, batch, uniform):
        size = self.shape(*batch.images.shape[1:3])
        if size == batch.images.shape[1:3]:
            return batch
        numbers = range(len(batch.images))
        return _stacked(batch, [_resized(batch, i, size) for i in numbers])


@dataclass(frozen=True)
class CenterCrop(Step):
    """The middle; what is smaller gets a black border."""

    size: int
    resizes = True
    pads = True

    def shape(self, height, width):
        return self.size, self.size

    def apply(self, batch, uniform):
        count, height, width = batch.images.shape[:3]
        tops = np.full(count, (height - self.size) // 2)
        lefts = np.full(count, (width - self.size) // 2)
        return _windows(batch, tops, lefts, self.size, self.size, 0)


@dataclass(frozen=True)
class RandomResizedCrop(Step):
    """A part of random area and shape, resized to `size`, or to what it was."""

    scale: tuple[float, float]
    ratio: tuple[float, float]
    size: int | None
    draws = 2 * _ATTEMPTS + 2
    resizes = True

    def shape(self, height, width):
        return (height, width) if self.size is None else (self.size, self.size)

    def boxes(self, sizes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """`(N, 4)`: top, left, height and width of the parts of images of `sizes`,
        `(N, 2)`: the first of ten attempts that fits, otherwise the largest part in the
        middle whose shape is allowed."""
        height, width = sizes.T[:, :, None]
        low, high = self.scale
        area = height * width * (low + (high - low) * uniform[:, :_ATTEMPTS])
        narrow, wide = self.ratio
        logarithm = uniform[:, _ATTEMPTS : 2 * _ATTEMPTS] * math.log(wide / narrow)
        ratio = narrow * np.exp(logarithm)
        heights = np.rint(np.sqrt(area / ratio)).astype(int)
        widths = np.rint(np.sqrt(area * ratio)).astype(int)
        fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
        rows, first = np.arange(len(uniform)), fits.argmax(1)
        parts = np.stack([heights[rows, first], widths[rows, first]], 1)
        shape = np.clip(width / height, narrow, wide)
        whole = np.concatenate([width / shape, height * shape], 1)
        whole = np.minimum(sizes, np.rint(whole).astype(int)).clip(1)
        some = fits.any(1)[:, None]
        parts = np.where(some, parts, whole)
        free = sizes - parts
        corners = np.floor(uniform[:, -2:] * (free + 1)).astype(int)
        corners = np.where(some, corners, free // 2)
        return np.concatenate([corners, parts], 1)

    def apply(self, batch, uniform):
        size = self.shape(*batch.images.shape[1:3])
        sizes = np.tile(batch.images.shape[1:3], (len(uniform), 1))
        results = []
        for i, box in enumerate(self.boxes(sizes, uniform)):
            top, left, height, width = box.tolist()
            rows, columns = slice(top, top + height), slice(left, left + width)
            results.append(_resized(batch, i, size, rows, columns))
        return _stacked(batch, results)


@dataclass(frozen=True)
class RandomScaleCrop(Step):
    """A random short side, the long one at most `longest`; a random window of it, with
    the mean colour and the void label where it is smaller."""

    short: tuple[int, ...]
    longest: int | None
    crop: int
    draws = 3
    resizes = True
    pads = True

    def shape(self, height, width):
        return self.crop, self.crop

    def apply(self, batch, uniform):
        height, width = batch.images.shape[1:3]
        results = []
        for i, (choice, vertical, horizontal) in enumerate(uniform):
            short = self.short[int(choice * len(self.short))]
            factor = short / min(height, width)
            if self.longest is not None:
                factor = min(factor, self.longest / max(height, width))
            size = max(1, round(height * factor)), max(1, round(width * factor))
            one = _stacked(batch, [_resized(batch, i, size)])
            top = np.array([int(vertical * (max(size[0] - self.crop, 0) + 1))])
            left = np.array([int(horizontal * (max(size[1] - self.crop, 0) + 1))])
            part = _windows(one, top, left, self.crop, self.crop, batch.fill)
            results.append(
                (part.images[0], None if one.masks is None else part.masks[0])
            )
        return _stacked(batch, results)


@dataclass(frozen=True)
class ColorJitter(Step):
    """Brightness, contrast and saturation, each by a factor from `1 - strength` to
    `1 + strength`, in a random order."""

    strength: float
    draws = 6
    colour = True

    def apply(self, batch, uniform):
        images = batch.images.astype("float32")
        factors = 1 + self.strength * (2 * uniform[:, :3] - 1)
        order = uniform[:, 3:].argsort(1)
        rows = np.arange(len(images))
        for position in range(3):
            kind = order[:, position]
            factor = factors[rows, kind].astype("float32")[:, None, None, None]
            kind = kind[:, None, None, None]
            grey = (images @ _GREY)[..., None]
            mean = grey.mean((1, 2), keepdims=True)
            other = np.where(kind == 0, 0, np.where(kind == 1, mean, grey))
            images = np.clip(images * factor + other * (1 - factor), 0, batch.maximum)
        return replace(batch, images=images)


@dataclass(frozen=True)
class Lighting(Step):
    """Adds the principal components of ImageNet's colours, each by a normal number of
    this standard deviation times its eigenvalue."""

    deviation: float
    draws = 6
    colour = True

    def apply(self, batch, uniform):
        # Box and Muller; 1 - u is never 0.
        radius = np.sqrt(-2 * np.log(1 - uniform[:, :3]))
        normal = radius * np.cos(2 * np.pi * uniform[:, 3:])
        shift = (normal * self.deviation * _PCA_VALUES) @ _PCA_VECTORS.T
        shift = (shift * batch.maximum).astype("float32")[:, None, None]
        return replace(batch, images=batch.images + shift)


def _stacked(batch, results):
    """A batch of `(image, mask)`, with what belongs to it."""
    images, masks = zip(*results, strict=True)
    masks = None if batch.masks is None else np.stack(masks)
    return replace(batch, images=np.stack(images), masks=masks)


def _resized(batch, i, size, rows=slice(None), columns=slice(None)):
    """The image of a batch, or a part of it, and the mask, in another size."""
    image = _interpolated(batch.images[i, rows, columns], size)
    if batch.masks is None:
        return image, None
    return image, _interpolated(batch.masks[i, rows, columns], size, nearest=True)


def _interpolated(image: np.ndarray, size: tuple, nearest: bool = False) -> np.ndarray:
    """An image `(H, W, C)` or `(H, W)`, uint8, in the size `(height, width)`."""
    Image = pictures("Resizing images")
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    if image.ndim == 3 and image.shape[2] != 3:
        channels = [
            _interpolated(channel, size) for channel in np.moveaxis(image, 2, 0)
        ]
        return np.stack(channels, 2)
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize(size[::-1], method))


def _windows(batch, tops, lefts, height, width, fill):
    """A window of every image and mask, where it may reach outside."""
    images = _window(batch.images, tops, lefts, height, width, fill)
    masks = batch.masks
    if masks is not None:
        masks = _window(masks, tops, lefts, height, width, batch.void)
    return replace(batch, images=images, masks=masks)


def _window(values, tops, lefts, height, width, fill):
    above, left = max(0, -tops.min()), max(0, -lefts.min())
    below = max(0, tops.max() + height - values.shape[1])
    right = max(0, lefts.max() + width - values.shape[2])
    if above or left or below or right:
        count, rows, columns = values.shape[:3]
        shape = (count, above + rows + below, left + columns + right, *values.shape[3:])
        padded = np.empty(shape, values.dtype)
        padded[:] = fill
        padded[:, above : above + rows, left : left + columns] = values
        values = padded
    result = np.empty((len(values), height, width, *values.shape[3:]), values.dtype)
    # A copy of a window each is three times as fast as one by arrays of indices.
    for i, (y, x) in enumerate(zip(tops + above, lefts + left, strict=True)):
        result[i] = values[i, y : y + height, x : x + width]
    return result
