"""First weights drawn by NumPy: JAX compiles a program for each shape, which for a
network takes longer than a benchmark has."""

import contextlib
from math import prod
from unittest import mock

import keras
import numpy as np

# Of a normal distribution cut off at two of them; Keras has it, too.
CUT_DEVIATION = 0.87962566103423978


@contextlib.contextmanager
def drawn_by_numpy():
    """Inside, initializers of Keras that scale a variance have its distribution, but
    other numbers; the same for the same seed."""
    with mock.patch.object(keras.initializers.VarianceScaling, "__call__", draw):
        yield


def draw(self, shape, dtype=None, **_):
    """What takes the place of `VarianceScaling.__call__`."""
    *field, inputs, outputs = shape if len(shape) > 1 else (*shape, *shape)
    inputs, outputs = prod(field) * inputs, prod(field) * outputs
    fans = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}
    deviation = np.sqrt(self.scale / max(1, fans[self.mode]))
    rng = np.random.default_rng(self.seed)
    if self.distribution == "uniform":
        values = rng.uniform(-1, 1, shape) * np.sqrt(3) * deviation
    else:
        values = rng.normal(size=shape)
        if self.distribution == "truncated_normal":
            deviation = deviation / CUT_DEVIATION
            while (far := np.abs(values) > 2).any():
                values[far] = rng.normal(size=far.sum())
        values = values * deviation
    return keras.ops.convert_to_tensor(values, dtype or keras.config.floatx())
