import re

import keras
import numpy as np
import pytest

from keras_en.models.norms import NAMES, norm_name, normalization
from tests.backends import BACKEND, images, numpy

AXES = {"in": (1, 2), "ln": (1, 2, 3), "bn": (0, 1, 2), "sync_bn": (0, 1, 2)}
OF_THE_BATCH = ("en", "sn", "ssn", "bn", "sync_bn")


def test_batch_normalization_of_two_values():
    """Mean 3, variance 4: epsilon 0 leaves -1 and 1."""
    layer = normalization("bn", 1, epsilon=0.0, name="n")
    outputs = numpy(layer(np.array([[1.0], [5.0]]), training=True))
    np.testing.assert_allclose(outputs, [[-1], [1]], rtol=1e-6)
    assert layer.name == "n" and isinstance(layer, keras.layers.BatchNormalization)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [-1, 1])
def test_every_name_builds_a_layer(rng, name, axis):
    if BACKEND == "torch" and name == "sync_bn":
        pytest.skip("synchronized=True is refused on torch")
    x = images(rng, (4, 6, 6, 8))
    x_in = x if axis == -1 else np.moveaxis(x, -1, 1)
    layer = normalization(name, 8, axis=axis, name="n", epsilon=1e-6)
    y = numpy(layer(x_in, training=True) if name in OF_THE_BATCH else layer(x_in))
    assert y.shape == x_in.shape and layer.name == "n"
    if name in AXES:
        y = y if axis == -1 else np.moveaxis(y, 1, -1)
        np.testing.assert_allclose(y.mean(AXES[name]), 0, atol=1e-5)
        np.testing.assert_allclose(y.var(AXES[name]), 1, atol=1e-3)


@pytest.mark.parametrize(
    "channels, groups", [(16, 8), (32, 16), (64, 32), (58, 29), (3, 1)]
)
def test_groups_divide_the_channels_and_hold_two(channels, groups):
    assert normalization("gn", channels).groups == groups


def test_arguments_reach_the_layer():
    assert normalization("en", 8, expansion=7).expansion == 7
    assert normalization("gn", 8, groups=2).groups == 2


def test_a_class_or_a_callable():
    layer = normalization(keras.layers.UnitNormalization, 8, axis=1, name="n")
    assert isinstance(layer, keras.layers.UnitNormalization) and layer.name == "n"
    layer = normalization(
        lambda axis, name: keras.layers.BatchNormalization(axis, 0.5, name=name), 8
    )
    assert layer.momentum == 0.5


def test_names_of_networks():
    """TensorFlow takes no other characters in a name than those of an identifier."""
    assert norm_name("en") == "en"
    assert norm_name(keras.layers.BatchNormalization) == "batchnormalization"
    assert norm_name(lambda axis, name: None) == "norm"


def test_an_unknown_name_lists_all_names():
    message = (
        "Argument `norm` must be one of ('en', 'sn', 'ssn', 'bn', 'sync_bn', 'gn', "
        "'in', 'ln'), a layer class or a callable. Received: norm='xn'"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        normalization("xn", 8)
