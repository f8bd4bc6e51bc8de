"""What builders refuse, and how they say it."""

import re

import keras
import numpy as np
import pytest

from keras_en.models import CifarResNet, ShuffleNetV2
from keras_en.models.norms import NAMES
from tests.models.networks import NETWORKS, outline


@pytest.mark.parametrize(
    "shape",
    [(7, 8, 3), (8, 7, 3), (None, 7, 3), (3, 32, 32), (32, 32), (32, 32, None)]
    + [(2, 32, 32, 3), (3, None, None)],
)
def test_wrong_shapes(shape):
    message = (
        r"^Argument `input_{}` must be of shape \(height, width, channels\), height "
        rf"and width at least 8 or None\. Received: input_{{}}={re.escape(str(shape))}$"
    )
    with pytest.raises(ValueError, match=message.format("shape", "shape")):
        CifarResNet(8, input_shape=shape)
    with pytest.raises(ValueError, match=message.format("tensor", "tensor")):
        CifarResNet(8, input_tensor=keras.Input(shape))


def test_wrong_shape_with_channels_first(data_format):
    data_format("channels_first")
    message = r"shape \(channels, height, width\), .* Received: input_shape=\(32, 32, 3"
    with pytest.raises(ValueError, match=message):
        CifarResNet(8, input_shape=(32, 32, 3))


def test_too_small(builder, name):
    least = 8 if name == "cifar_resnet8" else 32
    shape = (least - 1, least, 3)
    message = rf"`input_shape` .* at least {least}\b.* Received: input_shape="
    with pytest.raises(ValueError, match=message + re.escape(str(shape)) + "$"):
        builder(input_shape=shape)


@pytest.mark.parametrize("shape", [(None, None, 3), (64, None, 3)])
def test_attention_needs_fixed_sizes(shape):
    message = r"`input_shape` .* at least 32\. Received: input_shape=\((None|64), None"
    with pytest.raises(ValueError, match=message):
        NETWORKS["aa_resnet50"](input_shape=shape)


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        (
            {"pooling": "sum"},
            ValueError,
            "Argument `pooling` must be None, 'avg' or 'max'. Received: pooling='sum'",
        ),
        (
            {"weights": "imagenet"},
            ValueError,
            "Argument `weights` must be None or the path of a file. "
            "Received: weights='imagenet'",
        ),
        (
            {"input_tensor": np.zeros((1, 8, 8, 3))},
            ValueError,
            "Argument `input_tensor` must be None or a Keras tensor. "
            "Received: input_tensor of type ndarray",
        ),
        (
            {"norm_kwargs": [("epsilon", 1)]},
            TypeError,
            "Argument `norm_kwargs` must be None or a dictionary of arguments. "
            "Received: norm_kwargs=[('epsilon', 1)]",
        ),
        (
            {"norm": "xn"},
            ValueError,
            f"Argument `norm` must be one of {NAMES}, a layer class or a callable. "
            "Received: norm='xn'",
        ),
        (
            {"norm_kwargs": {"reduction": 12}},
            ValueError,
            "Layer `stem_norm`: Argument `reduction` must divide the number of "
            "channels, 16; the nearest divisors are [8, 16]. Received: reduction=12",
        ),
        (
            {"norm_kwargs": {"reduction": 32}},
            ValueError,
            "Layer `stem_norm`: Argument `reduction` must divide the number of "
            "channels, 16; the nearest divisors are [16]. Received: reduction=32",
        ),
    ],
)
def test_wrong_arguments(kwargs, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        CifarResNet(8, **kwargs)


def test_the_layer_that_a_reduction_does_not_divide():
    """24 and 48 channels, but not the 2 * 29 that come next."""
    with pytest.raises(ValueError, match="^Layer `stage2_block1_left_2_norm`: .* 58;"):
        outline(ShuffleNetV2, norm_kwargs={"reduction": 8})
