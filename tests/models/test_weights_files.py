"""The argument `weights`: files, and files of other architectures."""

import numpy as np
import pytest

from keras_en.models import CifarResNet
from tests.backends import images, numpy


def test_a_file_gives_its_weights(tmp_path):
    model = CifarResNet(8, norm="bn")
    bias = np.arange(10.0)
    model.layers[-1].bias.assign(bias)
    model.save_weights(tmp_path / "m.weights.h5")
    again = CifarResNet(8, norm="bn", weights=tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(numpy(again.layers[-1].bias), bias)


@pytest.fixture(scope="module")
def model():
    model = CifarResNet(8)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + rng.uniform(0, 0.1, variable.shape))
    return model


@pytest.fixture(scope="module", params=["m.keras", "m.weights.h5"])
def path(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / request.param
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    return path


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_file(rng, model, path, kind):
    x = images(rng, (2, 32, 32, 3))
    again = CifarResNet(8, weights=kind(path))
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))


@pytest.mark.parametrize(
    "depth, kwargs, layer",
    [
        (14, {}, "stage1_block2_1_conv"),
        (8, {"norm": "bn"}, "stem_norm"),
        (8, {"norm": "sn"}, "stem_norm"),
        (8, {"norm_kwargs": {"expansion": 3}}, "stem_norm"),
        (8, {"classes": 7}, "predictions"),
        (8, {"input_shape": (32, 32, 1)}, "stem_conv"),
    ],
)
def test_another_architecture(path, depth, kwargs, layer):
    message = (
        "(?s)^Argument `weights` must be a file of the weights of cifar_resnet.*; "
        f"nothing was loaded. The first layer that differs is `{layer}`: .* "
        f"Received: weights='{path}'$"
    )
    with pytest.raises(ValueError, match=message):
        CifarResNet(depth, weights=path, **kwargs)


def test_a_deeper_network(tmp_path):
    CifarResNet(14).save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="that differs is `stage2_block1_1_conv`: "):
        CifarResNet(8, weights=tmp_path / "m.weights.h5")


@pytest.mark.parametrize("name", ["x.weights.h5", "x.keras", "x.txt"])
@pytest.mark.parametrize("content", [b"", b"no weights\n"])
def test_no_file_of_weights(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    message = "^Argument `weights` must be a file of the weights of cifar_resnet8_en: "
    with pytest.raises(ValueError, match=f"{message}.* Received: weights='{path}'$"):
        CifarResNet(8, weights=path)


def test_half_a_file(tmp_path, path):
    cut = tmp_path / path.name
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="^Argument `weights` must be a file of the"):
        CifarResNet(8, weights=cut)


@pytest.mark.parametrize("name", ["no.weights.h5", "."])
def test_a_missing_file(tmp_path, name):
    message = (
        "^Argument `weights` must be None or the path of a file. Received: weights="
    )
    with pytest.raises(ValueError, match=message):
        CifarResNet(8, weights=tmp_path / name)
