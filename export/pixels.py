"""Which numbers a model takes the pixels of an image as: what its training saw."""

from typing import Any

import keras
import numpy as np

from keras_en.arguments import check
from keras_en.keras_private import layers_of, nodes

# What pixels are divided by before the model sees them.
DIVISORS = {"0-255": 1.0, "0-1": 255.0}
PIXELS = ("auto", *DIVISORS)
# Of red, green and blue.
GREY = (0.299, 0.587, 0.114)
# Constant images that show what layers do to pixels, and a size for open ones.
_LEVELS = (0, 0.3, 1, 200)
_SIZE = 64


def resolved(pixels: str, model: keras.Model) -> str:
    """ "0-255" or "0-1".

    Args:
        pixels: One of these, or "auto": "0-255" if the model takes integers, or if what
            it does first with its input is to rescale or normalize numbers of that
            size, also by moving statistics; otherwise "0-1".
    """
    check(pixels in PIXELS, "pixels", f"one of {PIXELS}", pixels)
    if pixels != "auto":
        return pixels
    if any("int" in str(tensor.dtype) for tensor in model.inputs):
        return "0-255"
    large, _ = _large(model, map(_images, model.inputs))
    return "0-255" if large else "0-1"


def _large(model, images):
    """Whether the first layers of a graph take numbers up to 255, and what comes out of
    it where images of `_LEVELS` come in, `None` where weights or others decide it."""
    reached = dict(zip(map(id, model.inputs), images, strict=True))
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    for operation, arguments, inputs, outputs in nodes(model):
        if not inputs or any(reached.get(id(tensor)) is None for tensor in inputs):
            continue
        large, results = _judged(operation, arguments.args, arguments.kwargs, reached)
        if large:
            return True, []
        reached |= zip(map(id, outputs), results, strict=False)
    return False, [reached.get(id(tensor)) for tensor in model.outputs]


def _judged(operation, args, kwargs, reached):
    """As `_large`, of one layer or operation, and of what it is called with."""
    tensors = keras.tree.flatten((args, kwargs))
    images = [reached[id(x)] for x in tensors if isinstance(x, keras.KerasTensor)]
    # In which 1 of the model's input is measured there.
    unit = _step(images[0])
    if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
        return _large(operation, images)
    if isinstance(operation, keras.layers.Normalization):
        return _takes_large(operation, unit), []
    if getattr(operation, "moving_mean", None) is not None:
        moving = operation.moving_mean, operation.moving_variance
        return _are_large(*moving, unit), []
    bounds = getattr(operation, "value_range", None)
    if bounds is not None:  # Augmentation says what it takes.
        return bool(np.max(bounds) > 10 * unit), []
    if _learns(operation):
        inner = layers_of(operation)
        return any(_rescales_pixels(layer, unit) for layer in inner), []
    # x / 255, x - 127.5, a Lambda, a layer of one's own: what it does to constants.
    try:
        levels = [
            _called(operation, args, kwargs, reached, i) for i in range(len(_LEVELS))
        ]
    except Exception:  # Whatever a layer raises of such an image.
        return False, []
    images = list(zip(*levels, strict=True))
    changes = [np.max(np.abs(high - low)) for low, *_, high in images]
    if not all(np.isfinite(change) and change > 0.05 for change in changes):
        return False, []
    offset = max(min(np.max(np.abs(x)) for x in image[:3]) for image in images)
    return bool(max(map(_step, images)) < 0.15 or offset > 10), images


def _images(tensor):
    """Of each of `_LEVELS` one of the shape of a symbolic tensor."""
    batch, *sizes = tensor.shape
    shape = [batch or 1, *(size or _SIZE for size in sizes)]
    return [np.full(shape, level, "float64") for level in _LEVELS]


def _step(image):
    """By how much the numbers of an image change at most where those of the model's
    input do so within 0 to 1."""
    low, *others = image[:3]
    return max(float(np.max(np.abs(other - low))) for other in others)


def _called(operation, args, kwargs, reached, level):
    """What comes out, in float64, where images of a level go in."""

    def filled(tensor):
        if not isinstance(tensor, keras.KerasTensor):
            return tensor
        return keras.ops.cast(reached[id(tensor)][level], tensor.dtype)

    args, kwargs = keras.tree.map_structure(filled, (args, kwargs))
    # Losses that it adds, and what it counts, are lost.
    with keras.StatelessScope():
        outputs = keras.tree.flatten(operation(*args, **kwargs))
    return [keras.ops.convert_to_numpy(x).astype("float64") for x in outputs]


def _learns(operation):
    """Whether a layer has weights, but for those that `adapt` of Keras sets."""
    if not isinstance(operation, keras.Layer):
        return False
    adapted = [
        id(variable)
        for layer in layers_of(operation)
        if isinstance(layer, keras.layers.Normalization)
        for variable in layer.weights
    ]
    return any(id(variable) not in adapted for variable in operation.weights)


def _rescales_pixels(layer, unit):
    """Whether a layer inside one that learns is there for pixels: rates of residual
    branches are not as small as 1 / 127.5."""
    if isinstance(layer, keras.layers.Normalization):
        return _takes_large(layer, unit)
    of_pixels = isinstance(layer, keras.layers.Rescaling)
    return of_pixels and bool(unit * np.max(np.abs(layer.scale)) < 0.02)


def _takes_large(layer: Any, unit: float) -> bool:
    """Whether what a `Normalization` takes can exceed 1 unit by far."""
    return not layer.invert and _are_large(layer.mean, layer.variance, unit)


def _are_large(mean, variance, unit):
    """Whether data with these statistics can."""
    mean, variance = map(keras.ops.convert_to_numpy, (mean, variance))
    return bool(np.max(np.abs(mean)) > 2 * unit or np.max(variance) > 4 * unit**2)
