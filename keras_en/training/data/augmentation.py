"""The steps of a recipe's data, read and put together."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from keras_en.arguments import check, require
from keras_en.training.data import transformations
from keras_en.training.data.transformations import Batch, Step

# Of an image, in pixels.
LARGEST_SIDE = 2**14
_SIZE = f"a positive integer of at most {LARGEST_SIDE}"
# A step with a size or the values of several; everything else is one number.
_NAMES = (
    *("pad_crop", "shift", "flip", "random_resized_crop", "random_scale_crop"),
    *("resize", "center_crop", "color_jitter", "lighting", "normalize"),
)


@dataclass(frozen=True)
class Transform:
    """What becomes of images between the source and the network; see `of`."""

    steps: tuple[Step, ...] = ()
    void: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def of(
        cls,
        steps: Sequence[Any] | None,
        image_size: int | None = None,
        void: int | None = None,
    ) -> "Transform":
        """Reads the list of steps of a recipe; images end as float32 in [0, 1], unless
        `normalize` says otherwise.

        - `pad_crop: N` or `shift: N`: moved by up to N pixels, black outside.
        - `flip`: left and right change places in half of the images.
        - `random_resized_crop`, with `{scale: [0.08, 1], ratio: [0.75, 1.333]}` or
          not: a part of such an area and shape, resized to `image_size`.
        - `random_scale_crop: {short: [300, 375], longest: 1000, crop: 480}`: a random
          short side, then a random window; the mean colour outside.
        - `resize: N` or `resize: [H, W]`: the short side, or both.
        - `center_crop: N`: the middle.
        - `color_jitter: 0.4`: brightness, contrast and saturation.
        - `lighting: 0.1`: principal components of ImageNet's colours.
        - `normalize: {mean: [...], std: [...]}`: `(x - mean) / std` of x in [0, 1],
          the last step.

        Masks go along: they are moved, cut and resized as their images are, by the
        nearest pixel, and are `void` outside.

        Args:
            steps: List of names, and of dictionaries of one name and its value.
            image_size: Integer, the size where a step does not say it. `None`: that
                of the images.
            void: The label of pixels that count nowhere.

        Raises:
            ValueError: A step is not among these, its value is not allowed, or it
                stands at the wrong place.

        Example:

        >>> import numpy as np
        >>> from keras_en.training.data import Transform
        >>> transform = Transform.of([{"center_crop": 2}, {"normalize": {"mean": 0.5}}])
        >>> transform.output_shape((4, 4, 1))
        (2, 2, 1)
        >>> images, _ = transform(np.zeros((1, 4, 4, 1), "uint8"))
        >>> images.ravel().tolist()
        [-0.5, -0.5, -0.5, -0.5]
        """
        _require(
            image_size is None or _whole(image_size), "image_size", _SIZE, image_size
        )
        listed = steps is None or isinstance(steps, list | tuple)
        check(listed, "steps", "a list of names and of mappings of one name", steps)
        pairs = [_entry(entry) for entry in steps or ()]
        result = cls(void=void)
        colours = False
        for i, (name, value) in enumerate(pairs):
            if name == "normalize":
                last = i == len(pairs) - 1
                _require(last, name, "the last step", [name for name, _ in pairs])
                mean, std = _normalize(value)
                result = replace(result, mean=mean, std=std)
                break
            step = _step(name, value, image_size)
            first = not (colours and step.resizes)
            _require(first, name, "before color_jitter and lighting", value)
            colours = colours or step.colour
            result = replace(result, steps=(*result.steps, step))
        return result

    @property
    def draws(self) -> int:
        """The uniform random numbers that a sample needs."""
        return sum(step.draws for step in self.steps)

    @property
    def dtype(self) -> str:
        """Of the images before the last step."""
        return "float32" if any(step.colour for step in self.steps) else "uint8"

    def sized(self, image_size: int | None) -> "Transform":
        """For images that are to be squares of this size: they are resized first,
        unless a step decides their size; one that does not say which gets this."""
        if image_size is None:
            return self
        steps = tuple(
            replace(step, size=image_size)
            if isinstance(step, transformations.RandomResizedCrop) and not step.size
            else step
            for step in self.steps
        )
        if not any(step.resizes for step in steps):
            steps = (transformations.Resize((image_size, image_size)), *steps)
        return replace(self, steps=steps)

    def stages(self, one_size: bool) -> tuple["Transform", "Transform"]:
        """What has to be done to each image by itself, since sizes differ, or to bring
        them to one; and what can be done to a batch."""
        last = max((i + 1 for i, s in enumerate(self.steps) if s.resizes), default=0)
        last = last if last or one_size else len(self.steps)
        first, second = self.steps[:last], self.steps[last:]
        return replace(self, steps=first), replace(self, steps=second)

    def output_shape(self, image_shape: tuple) -> tuple:
        """`(H, W, C)` of the results, from that of the images; `None` where it differs
        from image to image."""
        height, width, channels = image_shape
        for step in self.steps:
            height, width = step.shape(height, width)
        return height, width, channels

    def check_fits(self, channels: int, masks: bool) -> None:
        """Raises `ValueError` unless it can be used with such images."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            allowed = f"a number or {channels} of them, one a channel"
            _require(
                len(values) in (1, channels), f"normalize: {name}", allowed, values
            )
        for step in self.steps:
            allowed = "left out where images have no three colours"
            _require(channels == 3 or not step.colour, _name(step), allowed, channels)
            outside = self.void is not None or not (masks and step.pads)
            allowed = "used with a label `void`, which masks are outside of an image"
            _require(outside, _name(step), allowed, None)

    def scaling(self, maximum: float) -> tuple[np.ndarray, np.ndarray]:
        """Factor and summand of the last step, float32, `(1,)` or `(C,)`."""
        mean, std = np.array(self.mean), np.array(self.std)
        return (1 / (maximum * std)).astype("float32"), (-mean / std).astype("float32")

    def apply(
        self,
        images: np.ndarray,
        masks: np.ndarray | None,
        uniform: np.ndarray,
        maximum: float = 255,
    ) -> Batch:
        """All steps but the last, scaling.

        Args:
            images: `(N, H, W, C)`, uint8.
            masks: `(N, H, W)`, uint8, or `None`.
            uniform: `(N, draws)`, numbers in [0, 1).
            maximum: The value of white.
        """
        fill = np.rint(np.array(self.mean) * maximum).clip(0, maximum)
        batch = Batch(images, masks, maximum, fill, self.void)
        for step in self.steps:
            numbers, uniform = uniform[:, : step.draws], uniform[:, step.draws :]
            batch = step.apply(batch, numbers)
        return batch

    def __call__(
        self,
        images: np.ndarray,
        masks: np.ndarray | None = None,
        uniform: np.ndarray | None = None,
        maximum: float = 255,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Images, float32, and masks, int32, after all steps; see `apply`."""
        if uniform is None:
            uniform = np.random.default_rng().random((len(images), self.draws))
        batch = self.apply(images, masks, uniform, maximum)
        factor, summand = self.scaling(maximum)
        results = batch.images.astype("float32")
        # In place: a batch is read and written as seldom as can be.
        results *= factor
        results += summand
        return results, None if batch.masks is None else batch.masks.astype("int32")


def _require(condition, name, allowed, value):
    require(condition, f"Step `{name}`", f"be {allowed}", repr(value))


def _name(step):
    """The name in a recipe of a step."""
    names = {name.replace("_", ""): name for name in _NAMES}
    return names[type(step).__name__.lower()]


def _entry(entry):
    """Name and value of an entry of the list."""
    name, value = entry, None
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, value),) = entry.items()
    if name not in _NAMES:
        close = difflib.get_close_matches(str(name), _NAMES, 1)
        meant = f"; do you mean {close[0]}?" if close else ""
        raise ValueError(
            f"Argument `steps` must hold steps among {', '.join(_NAMES)}, each a name "
            f"or a mapping of one{meant} Received: {entry!r}"
        )
    return name, value


def _whole(value, least=1):
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and least <= value <= LARGEST_SIDE


def _number(value, low, high=float("inf")):
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and low <= value <= high


def _numbers(value):
    """A number, or a list of them, as a tuple; `None` if it is neither."""
    values = value if isinstance(value, list | tuple) else [value]
    if values and all(_number(v, -float("inf")) for v in values):
        return tuple(float(v) for v in values)
    return None


def _mapping(name, value, allowed):
    """`value` as a dictionary with keys among `allowed`."""
    value = {} if value is None else value
    fits = isinstance(value, dict) and set(value) <= set(allowed)
    _require(fits, name, f"a mapping with keys among {', '.join(allowed)}", value)
    return value


def _step(name, value, image_size):
    if name in ("pad_crop", "shift"):
        _require(_whole(value), name, _SIZE + ", of pixels", value)
        return transformations.PadCrop(value)
    if name == "flip":
        _require(value is None, name, "without a value", value)
        return transformations.Flip()
    if name == "resize":
        pair = isinstance(value, list | tuple) and len(value) == 2
        fits = _whole(value) or (pair and all(map(_whole, value)))
        _require(fits, name, f"{_SIZE} or a list of two, height and width", value)
        return transformations.Resize(tuple(value) if pair else value)
    if name == "center_crop":
        value = image_size if value is None else value
        _require(_whole(value), name, f"{_SIZE}; `image_size` without a value", value)
        return transformations.CenterCrop(value)
    if name == "color_jitter":
        _require(_number(value, 0, 1), name, "a number from 0 to 1", value)
        return transformations.ColorJitter(value)
    if name == "lighting":
        _require(_number(value, 0), name, "a number of at least 0", value)
        return transformations.Lighting(value)
    if name == "random_resized_crop":
        return _random_resized_crop(name, value, image_size)
    return _random_scale_crop(name, value, image_size)


def _random_resized_crop(name, value, image_size):
    value = _mapping(name, value, ("scale", "ratio"))
    ranges = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
    for key, default in ranges.items():
        pair = _numbers(value.get(key, default))
        high = 1.0 if key == "scale" else float("inf")
        fits = pair is not None and len(pair) == 2 and 0 < pair[0] <= pair[1] <= high
        allowed = "two numbers above 0" + (" up to 1" if key == "scale" else "")
        _require(fits, f"{name}: {key}", f"{allowed}, the smaller first", value)
        ranges[key] = pair
    return transformations.RandomResizedCrop(
        ranges["scale"], ranges["ratio"], image_size
    )


def _random_scale_crop(name, value, image_size):
    value = _mapping(name, value, ("short", "longest", "crop"))
    short = value.get("short")
    short = short if isinstance(short, list | tuple) else [short]
    fits = bool(short) and all(map(_whole, short))
    _require(fits, f"{name}: short", f"{_SIZE} or a list of them", value)
    longest, crop = value.get("longest"), value.get("crop", image_size)
    fits = longest is None or _whole(longest)
    _require(fits, f"{name}: longest", f"{_SIZE} or left out", value)
    allowed = f"{_SIZE}; `image_size` where it is left out"
    _require(_whole(crop), f"{name}: crop", allowed, value)
    return transformations.RandomScaleCrop(tuple(short), longest, crop)


def _normalize(value):
    value = _mapping("normalize", value, ("mean", "std"))
    mean, std = _numbers(value.get("mean", 0.0)), _numbers(value.get("std", 1.0))
    _require(mean is not None, "normalize: mean", "a number or a list of them", value)
    fits = std is not None and min(std) > 0
    _require(fits, "normalize: std", "a number above 0 or a list of them", value)
    return mean, std
