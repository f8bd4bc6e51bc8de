"""Residual networks for small images."""

import keras
import numpy as np
import pytest

from keras_en.models import CifarResNet, CifarResNet20, CifarResNet56
from keras_en.models.norms import NAMES
from tests.backends import BACKEND, images, numpy


def test_eight_layers_by_hand():
    """Stem, 2 in each of 3 blocks, 2 shortcuts; 11 to 6 and 3 pixels a side."""
    model = CifarResNet(8, input_shape=(11, 11, 3), norm="bn")
    sizes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert sum(name.endswith("_norm") for name in sizes) == 1 + 2 * 3 + 2
    assert sizes["stage1_block1_relu"] == (11, 11, 16)
    assert sizes["stage2_block1_relu"] == (6, 6, 32)
    assert sizes["stage3_block1_relu"] == (3, 3, 64)


@pytest.mark.parametrize(
    "builder, depth, millions", [(CifarResNet20, 20, 0.27), (CifarResNet56, 56, 0.86)]
)
def test_depth_and_parameters(builder, depth, millions):
    """He et al. 2016, Table 6: 0.27 and 0.85 M, here with option B: 2,752 more."""
    model = builder(norm="bn")
    weighted = [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
        and "shortcut" not in layer.name
    ]
    assert len(weighted) == depth
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert round(parameters / 1e6, 2) == millions


@pytest.mark.parametrize("norm", NAMES)
def test_a_file_for_images_of_any_size(rng, tmp_path, norm):
    if BACKEND == "torch" and norm == "sync_bn":
        pytest.skip("synchronized=True is refused on torch")
    model = CifarResNet(8, input_shape=(None, None, 3), norm=norm, classes=4)
    assert model.name == f"cifar_resnet8_{norm}"
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = images(rng, (2, 13, 8, 3))
    y = numpy(model(x))
    assert y.shape == (2, 4)
    np.testing.assert_array_equal(numpy(again(x)), y)


@pytest.mark.parametrize("depth", [7, 2, 20.0, "20", 21])
def test_bad_depth(depth):
    message = r"^Argument `depth` must be 6 n \+ 2 .* Received: depth="
    with pytest.raises(ValueError, match=f"{message}{depth!r}$"):
        CifarResNet(depth)
