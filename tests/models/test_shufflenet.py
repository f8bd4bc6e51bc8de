import keras
import numpy as np
import pytest

from keras_en.models import ShuffleNetV2
from keras_en.models.shufflenet import ShuffledHalves
from tests.backends import images, numpy
from tests.models.networks import norms, outline


def test_two_channels_each():
    """1, 2 and 3, 4 in turn are 1, 3, 2, 4."""
    halves = ShuffledHalves()([np.array([[1.0, 2]]), np.array([[3.0, 4]])])
    assert [numpy(x).tolist() for x in halves] == [[[1, 3]], [[2, 4]]]


@pytest.mark.parametrize("axis", [-1, 1])
def test_shuffled_halves(rng, axis):
    """Ma et al. 2018, Fig. 3c: concatenation, channel shuffle, split."""
    a, b = images(rng, (2, 2, 6, 5, 6))
    layer = ShuffledHalves(axis)
    joint = np.moveaxis(np.concatenate([a, b], axis), axis, -1)
    shuffled = joint.reshape(2, *joint.shape[1:3], 2, 6).swapaxes(-1, -2)
    halves = np.split(shuffled.reshape(joint.shape), 2, axis=-1)
    for channels, expected in zip(layer([a, b]), halves, strict=True):
        np.testing.assert_array_equal(numpy(channels), np.moveaxis(expected, -1, axis))


@pytest.mark.parametrize("axis", [-1, 1])
def test_shuffled_halves_of_any_size(axis):
    shape = (None, None, None, 6) if axis == -1 else (None, 6, None, None)
    halves = ShuffledHalves(axis)([keras.KerasTensor(shape), keras.KerasTensor(shape)])
    assert [x.shape for x in halves] == [shape, shape]


def test_the_configuration_of_shuffled_halves():
    layer = ShuffledHalves(1, name="a")
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert again.get_config() == layer.get_config() and again.axis == 1


@pytest.fixture(scope="module")
def model():
    return outline(ShuffleNetV2, width=0.5, norm="bn")


@pytest.mark.parametrize(
    "name, shape",
    [
        ("stem_relu", (112, 112, 24)),
        ("stem_pool", (56, 56, 24)),
        ("stage2_concat", (28, 28, 48)),
        ("stage3_concat", (14, 14, 96)),
        ("stage4_concat", (7, 7, 192)),
        ("top_relu", (7, 7, 1024)),
    ],
)
def test_shapes(model, name, shape):
    """Ma et al. 2018, Table 5."""
    assert model.get_layer(name).output.shape == (None, *shape)


def test_no_relu_behind_depthwise_convolutions(model):
    depthwise = [
        layer.name.removesuffix("_conv")
        for layer in model.layers
        if isinstance(layer, keras.layers.DepthwiseConv2D)
    ]
    relus = {layer.name for layer in model.layers if layer.name.endswith("_relu")}
    assert len(depthwise) == 16 + 3
    assert not relus & {f"{name}_relu" for name in depthwise}


@pytest.mark.parametrize("width, reduction", [(1.0, "auto"), (1.5, 8)])
def test_reductions_of_other_widths(width, reduction):
    """8 does not divide the 58 channels of the width 1.0."""
    model = outline(ShuffleNetV2, width=width)
    assert model.name == f"shufflenet_v2_x{width}_en"
    assert {layer.reduction for layer in norms(model)} == {reduction}


@pytest.mark.parametrize("width", [0.7, 0, "0.5"])
def test_unknown_widths(width):
    message = (
        r"^Argument `width` must be one of \[0.5, 1.0, 1.5, 2.0\]. Received: width="
    )
    with pytest.raises(ValueError, match=f"{message}{width!r}$"):
        ShuffleNetV2(width=width)
