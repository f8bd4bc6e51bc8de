import keras
import numpy as np
import pytest

from keras_en.models import ResNet50
from tests.backends import images, numpy


@pytest.mark.parametrize(
    "norm, trainable",
    [
        ("bn", 25_557_032),  # 25.56 M (Table 2)
        # 2 * 26,560 channels of BatchNormalization become 7 * 26,560 + 53 * 1,953
        ("en", 25_557_032 + 5 * 26_560 + 53 * 1_953),
    ],
)
def test_parameters(norm, trainable):
    model = ResNet50(norm=norm)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == trainable
    assert sum(layer.name.endswith("_norm") for layer in model.layers) == 53


def test_any_size_without_the_top_and_a_file(rng, tmp_path):
    kwargs = {
        "include_top": False,
        "input_shape": (None, None, 3),
        "norm_kwargs": {"expansion": 2},
    }
    model = ResNet50(pooling="avg", zero_init_last_gamma=True, **kwargs)
    x = images(rng, (2, 40, 33, 3))
    y = numpy(model(x))
    assert y.shape == (2, 2048) and model.name == "resnet50_en"
    model.save_weights(tmp_path / "m.weights.h5")
    again = ResNet50(pooling="avg", weights=tmp_path / "m.weights.h5", **kwargs)
    np.testing.assert_array_equal(numpy(again(x)), y)
    assert not numpy(model.get_layer("stage1_block1_3_norm").gamma).any()
    assert numpy(model.get_layer("stage1_block1_2_norm").gamma).all()


def test_on_a_tensor_of_another_network():
    before = keras.Input((32, 32, 3))
    middle = keras.layers.Rescaling(1 / 255)(before)
    model = ResNet50(input_tensor=middle, norm="bn", classes=4)
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 4)
    assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"pooling": "sum"}, "`pooling` must be .* Received: pooling='sum'"),
        ({"weights": "imagenet"}, "`weights` must be .* Received: weights='imagenet'"),
        ({"input_tensor": "x"}, "`input_tensor` must be .* Received: .* type str"),
        ({"norm": "xn"}, "`norm` must be .* Received: norm='xn'"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ResNet50(input_shape=(32, 32, 3), **kwargs)
