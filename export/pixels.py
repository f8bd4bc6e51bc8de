"""Which numbers a model takes the pixels of an image as: what its training saw."""

from typing import Any

import keras
import numpy as np

from keras_en.arguments import check
from keras_en.keras_private import nodes

# What pixels are divided by before the model sees them.
DIVISORS = {"0-255": 1.0, "0-1": 255.0}
PIXELS = ("auto", *DIVISORS)
# Layers that leave the range of their inputs alone.
_SAME_RANGE = (
    *("InputLayer", "Identity", "Resizing", "CenterCrop", "ZeroPadding2D"),
    *("Cropping2D", "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation"),
    *("RandomZoom", "Dropout", "SpatialDropout2D", "GaussianNoise", "Cast"),
)


def resolved(pixels: str, model: keras.Model) -> str:
    """ "0-255" or "0-1".

    Args:
        pixels: One of these, or "auto": "0-255" if the model takes integers, or if what
            it does first with its input is to rescale or normalize numbers of that
            size; otherwise "0-1".
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
        for layer in model.layers:
            large, same = _judged(layer, ())
            if not same:
                return large, False
        return False, True
    inside = getattr(model, "inputs", None) or []
    reached, same_range = {id(tensor) for tensor in inside}, bool(inside)
    for operation, arguments, inputs, outputs in nodes(model):
        if not inputs or not reached & set(map(id, inputs)):
            continue
        large, same = _judged(operation, arguments.args)
        if large:
            return True, False
        same_range = same_range and same
        if same:
            reached |= set(map(id, outputs))
    return False, same_range


def _judged(operation, arguments):
    """As `_large`, of one layer or operation."""
    kind = type(operation).__name__
    if isinstance(operation, keras.Model):  # Subclassed ones have no nodes.
        return _large(operation)
    if isinstance(operation, keras.layers.Rescaling):
        return bool(np.max(np.abs(operation.scale)) < 0.1), False
    if isinstance(operation, keras.layers.Normalization):
        return _large_moments(operation), False
    # x / 255, x * (1 / 127.5), x - 127.5
    numbers = [a for a in arguments if isinstance(a, (int, float, np.ndarray))]
    size = max((float(np.max(np.abs(a))) for a in numbers), default=None)
    if size is not None and kind in ("Divide", "TrueDivide", "Subtract"):
        return size > 10, False
    if size is not None and kind == "Multiply":
        return size < 0.1, False
    return False, kind in _SAME_RANGE


def _large_moments(layer: Any) -> bool:
    """Whether data with the statistics of a `Normalization` can exceed 1 by far."""
    if layer.invert:
        return False
    mean, variance = map(keras.ops.convert_to_numpy, (layer.mean, layer.variance))
    return bool(np.max(np.abs(mean)) > 2 or np.max(variance) > 4)
