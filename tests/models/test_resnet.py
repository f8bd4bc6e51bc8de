"""ResNet and its relatives, as they are published."""

import keras
import numpy as np
import pytest

from keras_en.models import AAResNet50, ResNet50, SEResNet50
from tests.backends import images, numpy
from tests.models.networks import norms, outline


def test_a_normalization_behind_every_convolution():
    """1 in the stem, 3 in each of 16 blocks, 4 on shortcuts."""
    model = outline(ResNet50, norm="bn", classes=10)
    assert len(norms(model)) == 1 + 3 * 16 + 4
    assert model.output_shape == (None, 10)


@pytest.fixture(scope="module")
def resnet():
    return outline(ResNet50, norm="bn")


@pytest.mark.parametrize(
    "name, shape",
    [
        ("stem_relu", (112, 112, 64)),
        ("stem_pool", (56, 56, 64)),
        ("stage1_block3_relu", (56, 56, 256)),
        ("stage2_block4_relu", (28, 28, 512)),
        ("stage3_block6_relu", (14, 14, 1024)),
        ("stage4_block3_relu", (7, 7, 2048)),
    ],
)
def test_shapes(resnet, name, shape):
    """He et al. 2016, Table 1."""
    assert resnet.get_layer(name).output.shape == (None, *shape)


def test_the_stride_is_on_the_3x3_convolution(resnet):
    strided = {
        layer.name
        for layer in resnet.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.strides == (2, 2)
    }
    blocks = [f"stage{stage}_block1" for stage in (2, 3, 4)]
    expected = {f"{b}_2_conv" for b in blocks} | {f"{b}_shortcut_conv" for b in blocks}
    assert strided == expected | {"stem_conv"}


def test_squeeze_and_excite(rng):
    """Hu et al. 2018, Eq. 2 to 4."""
    model = SEResNet50(input_shape=(33, 47, 3), norm="bn")
    ends = ("stage2_block1_3_norm", "stage2_block1_scale")
    ends = keras.Model(model.input, [model.get_layer(end).output for end in ends])
    before, after = map(numpy, ends(images(rng, (2, 33, 47, 3))))
    w1, b1 = model.get_layer("stage2_block1_excite_1").get_weights()
    w2, b2 = model.get_layer("stage2_block1_excite_2").get_weights()
    assert w1.shape == (1, 1, 512, 32) and w2.shape == (1, 1, 32, 512)
    hidden = np.maximum(before.mean((1, 2)) @ w1[0, 0] + b1, 0)
    scale = 1 / (1 + np.exp(-(hidden @ w2[0, 0] + b2)))
    expected = before * scale[:, None, None]
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)


def test_where_attention_augments():
    """Bello et al. 2019: k = 2 v = 0.2, 8 heads, keys of at least 20 a head."""
    model = outline(AAResNet50, input_shape=(64, 96, 3), norm="bn")
    shapes = {}
    for layer in model.layers:
        if layer.name.endswith("_attention"):
            stage = layer.name.split("_")[0]
            shape = (layer.heads, layer.keys, *layer.output.shape[1:])
            shapes.setdefault(stage, []).append(shape)
    assert shapes == {
        "stage2": [(8, 160, 8, 12, 8)] * 4,
        "stage3": [(8, 160, 4, 6, 24)] * 6,
        "stage4": [(8, 160, 2, 3, 48)] * 3,
    }
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        norm = model.get_layer(f"stage{stage}_block1_2_norm")
        assert norm.output.shape[-1] == filters
