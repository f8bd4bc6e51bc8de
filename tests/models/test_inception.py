"""Inception v2, as it is published."""

import keras
import pytest

from keras_en.models import InceptionV2
from tests.models.networks import norms, outline


def test_a_normalization_behind_every_convolution():
    """3 in the stem, 7 in each of 8 blocks, 5 in each of 2 that halve the image."""
    model = outline(InceptionV2, norm="bn", classes=10)
    assert len(norms(model)) == 3 + 7 * 8 + 5 * 2
    assert model.output_shape == (None, 10)


@pytest.fixture(scope="module")
def model():
    return outline(InceptionV2, norm="bn")


@pytest.mark.parametrize(
    "name, size, channels",
    [
        ("stem_1_relu", 112, 64),
        ("stem_pool_1", 56, 64),
        ("stem_3_relu", 56, 192),
        ("stem_pool_2", 28, 192),
        ("block3a_concat", 28, 256),
        ("block3b_concat", 28, 320),
        ("block3c_concat", 14, 576),
        ("block4a_concat", 14, 576),
        ("block4b_concat", 14, 576),
        ("block4c_concat", 14, 608),
        ("block4d_concat", 14, 608),
        ("block4e_concat", 7, 1056),
        ("block5a_concat", 7, 1024),
        ("block5b_concat", 7, 1024),
    ],
)
def test_shapes(model, name, size, channels):
    """Ioffe & Szegedy 2015, Table 3, with the channels of the Caffe model."""
    assert model.get_layer(name).output.shape == (None, size, size, channels)


def test_pooling_of_blocks(model):
    maximum = {
        layer.name[5:7]
        for layer in model.layers
        if layer.name.startswith("block")
        and isinstance(layer, keras.layers.MaxPooling2D)
    }
    assert maximum == {"3c", "4e", "5b"}


def test_only_these_blocks_halve_the_image(model):
    strided = [
        layer.name
        for layer in model.layers
        if layer.name.startswith("block")
        and isinstance(layer, keras.layers.Conv2D)
        and layer.strides == (2, 2)
    ]
    assert sorted(strided) == [
        "block3c_2_2_conv",
        "block3c_3_3_conv",
        "block4e_2_2_conv",
        "block4e_3_3_conv",
    ]
