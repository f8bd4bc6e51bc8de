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
# Constant images that show what a layer does to pixels, and a size for open ones.
_LEVELS = (0, 100, 200)
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
    integers = any("int" in str(tensor.dtype) for tensor in model.inputs)
    return "0-255" if integers or _large(model)[0] else "0-1"


def _large(model):
    """Whether the first layers take numbers up to 255, and whether all the layers of
    the model leave the range alone."""
    if isinstance(model, keras.Sequential):
        (x,) = model.inputs
        for layer in model.layers:
            large, same = _judged(layer, (x,), {})
            if not same:
                return large, False
            x = layer.compute_output_spec(x)
        return False, True
    reached, same_range = {id(tensor) for tensor in model.inputs}, True
    for operation, arguments, inputs, outputs in nodes(model):
        own = reached & set(map(id, inputs))
        if not own:
            continue
        large, same = _judged(operation, arguments.args, arguments.kwargs)
        if large:
            return True, False
        same = same and len(own) == len({id(tensor) for tensor in inputs})
        same_range = same_range and same
        if same:
            reached |= set(map(id, outputs))
    return False, same_range


def _judged(operation, args, kwargs):
    """As `_large`, of one layer or operation, and of what it is called with."""
    if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
        return _large(operation)
    if isinstance(operation, keras.layers.Normalization):
        return _takes_large(operation), False
    if getattr(operation, "moving_mean", None) is not None:
        return _are_large(operation.moving_mean, operation.moving_variance), False
    bounds = getattr(operation, "value_range", None)
    if bounds is not None:  # Augmentation says what it takes.
        return bool(np.max(bounds) > 10), False
    if _learns(operation):
        return any(map(_rescales_pixels, layers_of(operation))), False
    # x / 255, x - 127.5, a Lambda, a layer of one's own: what it does to constants.
    try:
        low, middle, high = (_of_constant(operation, args, kwargs, n) for n in _LEVELS)
    except Exception:  # Whatever a layer raises of such an image.
        return False, False
    change = np.max(np.abs(high - low))
    is_affine = np.max(np.abs(2 * middle - low - high)) <= 0.01 * change
    if not is_affine or change == 0:  # Or not finite.
        return False, False
    scale, offset = change / (_LEVELS[-1] - _LEVELS[0]), np.max(np.abs(low))
    return bool(scale < 0.1 or offset > 10), bool(abs(scale - 1) + offset < 0.01)


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


def _rescales_pixels(layer):
    """Whether a layer inside one that learns is there for pixels: rates of residual
    branches are not as small as 1 / 127.5."""
    if isinstance(layer, keras.layers.Normalization):
        return _takes_large(layer)
    of_pixels = isinstance(layer, keras.layers.Rescaling)
    return of_pixels and bool(np.max(np.abs(layer.scale)) < 0.02)


def _of_constant(operation, args, kwargs, level):
    """What comes out where every number that goes in is `level`, in float64."""

    def filled(tensor):
        if not isinstance(tensor, keras.KerasTensor):
            return tensor
        return keras.ops.full([n or _SIZE for n in tensor.shape], level, tensor.dtype)

    args, kwargs = keras.tree.map_structure(filled, (args, kwargs))
    # Losses that it adds, and what it counts, are lost.
    with keras.StatelessScope():
        outputs = keras.tree.flatten(operation(*args, **kwargs))
    arrays = map(keras.ops.convert_to_numpy, outputs)
    return np.concatenate([array.ravel() for array in arrays], dtype="float64")


def _takes_large(layer: Any) -> bool:
    """Whether what a `Normalization` takes can exceed 1 by far."""
    return not layer.invert and _are_large(layer.mean, layer.variance)


def _are_large(mean, variance):
    """Whether data with these statistics can."""
    mean, variance = map(keras.ops.convert_to_numpy, (mean, variance))
    return bool(np.max(np.abs(mean)) > 2 or np.max(variance) > 4)
