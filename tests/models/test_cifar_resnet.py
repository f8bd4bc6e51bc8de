import keras
import numpy as np
import pytest

from keras_en.models import CifarResNet
from keras_en.models.norms import NAMES
from tests.backends import images, numpy


@pytest.mark.parametrize(
    "norm, trainable",
    [
        # convolutions 432 + 4,608 + 14,336 + 57,344; dense 650; 2 * 336 of the norms
        ("bn", 78_042),
        ("gn", 78_042),
        # 7 * 336 of the norms (2 K C + C) and 9 * 1,953 (Psi(3))
        ("en", 97_299),
    ],
)
def test_parameters_of_resnet_8(norm, trainable):
    model = CifarResNet(8, norm=norm)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == trainable


def test_parameters_of_resnet_20_are_those_of_the_paper():
    """0.27 M (He et al. 2016, Table 6), here with option B: 2,560 + 192 more."""
    assert round(CifarResNet(20, norm="bn").count_params() / 1e6, 2) == 0.27


@pytest.mark.parametrize("norm", NAMES)
def test_any_size_and_a_file(rng, tmp_path, norm):
    model = CifarResNet(8, input_shape=(None, None, 3), norm=norm, classes=4)
    assert model.name == f"cifar_resnet8_{norm}"
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    for size in (8, 13):
        x = images(rng, (2, size, size, 3))
        y = numpy(model(x))
        assert y.shape == (2, 4)
        np.testing.assert_allclose(y.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(numpy(again(x)), y)


def test_norm_kwargs_reach_every_layer():
    model = CifarResNet(8, norm="en", norm_kwargs={"expansion": 3})
    layers = [layer for layer in model.layers if layer.name.endswith("_norm")]
    assert len(layers) == 9 and all(layer.expansion == 3 for layer in layers)


@pytest.mark.parametrize("depth", [7, 2, 20.0, "20", 21])
def test_bad_depth(depth):
    with pytest.raises(
        ValueError, match=r"`depth` must be 6 n \+ 2 .* Received: depth="
    ):
        CifarResNet(depth)
