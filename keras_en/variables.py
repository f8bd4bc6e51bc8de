"""The numbers that the variables of a network hold."""

import keras
import numpy as np

from keras_en.arguments import require


def value_of(variable):
    """Its value, NumPy's."""
    if keras.backend.backend() != "tensorflow":
        return keras.ops.convert_to_numpy(variable.value)
    import tensorflow as tf

    # A metric's sum over replicas is none before it is a tensor.
    return tf.convert_to_tensor(variable.value).numpy()


def copy_value(variable, other):
    """Assigns to a variable what another holds. On JAX `assign` would make one array of
    both, which is gone for both once one of them was trained or predicted with."""
    variable.assign(keras.ops.cast(np.array(value_of(other)), variable.dtype))


def is_finite(variable):
    """A constant may be infinite, such as what masks attention: in what is neither
    trained nor a statistic only NaN counts."""
    if not keras.backend.is_float_dtype(variable.dtype):
        return True
    value = value_of(variable)
    if variable.trainable or variable.name.startswith("moving_"):
        return bool(np.isfinite(value).all())
    return not np.isnan(value).any()


def not_finite(model):
    """The path of the first variable of a model that is not finite, or `None`."""
    return next((v.path for v in model.weights if not is_finite(v)), None)


def check_finite(model, subject="Argument `model`"):
    """Raises `ValueError` where a variable of a model is not finite."""
    name = not_finite(model)
    what = "hold finite numbers only, as no training gone wrong leaves them"
    require(name is None, subject, what, f"NaN or infinity in {name}")
