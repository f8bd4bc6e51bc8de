"""The compact form of a layer against the layer, for every kind of layer."""

import functools

import keras
import numpy as np
import onnx
import pytest

from keras_en import ExemplarNormalization, export
from keras_en.export.cases import OFFSET
from tests.backends import images, numpy
from tests.export.networks import randomized, small

pytestmark = pytest.mark.tensorflow


def compact_nodes(path):
    return [n for n in onnx.load(str(path)).graph.node if n.name.startswith("norm/en/")]


def close(path, model, x):
    for given in (x, x + OFFSET):
        expected = numpy(model(given))
        np.testing.assert_allclose(
            export.run_onnx(path, given), expected, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize(
    "options",
    [
        {"normalizers": ("batch", "instance")},
        {"normalizers": ("layer", "batch", "instance")},
        {"normalizers": ("instance",)},
        {"normalizers": ("layer",)},
        {"normalizers": ("batch",)},
        {"share_affine": True},
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False, "normalizers": ("instance", "layer")},
        {"center": False, "normalizers": ("instance",)},
        {"reduction": None, "ratio_activation": "relu"},
        {"reduction": 1, "expansion": 3, "epsilon": 1e-5},
    ],
    ids=str,
)
def test_kinds_of_layers(tmp_path, options):
    model = small(norm=functools.partial(ExemplarNormalization, **options))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert 10 < len(compact_nodes(path)) <= 41
    close(path, model, images(np.random.default_rng(0), (3, 8, 8, 3)))


@pytest.mark.parametrize(
    "options",
    [
        {"normalizers": ("instance", "group", "batch"), "groups": 2},
        {"ratio_head": "mlp"},
        {"ratio_activation": "gelu"},
        {"ratio_activation": lambda x: x},
    ],
    ids=["group", "mlp", "gelu", "own"],
)
def test_other_kinds_stay_as_they_are(tmp_path, options):
    model = small(norm=functools.partial(ExemplarNormalization, **options))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert not compact_nodes(path)
    close(path, model, images(np.random.default_rng(0), (3, 8, 8, 3)))


def test_masks_and_layers_called_twice_stay_as_they_are(tmp_path):
    x = keras.Input((8, 8, 3), name="x")
    mask = keras.Input((8, 8), dtype="bool", name="mask")
    conv = keras.layers.Conv2D(3, 3, padding="same")
    norm = ExemplarNormalization(name="norm")
    # An operation, behind which Keras carries no mask on.
    masked = keras.Model([x, mask], conv(keras.ops.abs(norm(conv(x), mask=mask))))
    twice = keras.Model(x, conv(norm(conv(norm(conv(x))))))
    rng = np.random.default_rng(0)
    array, kept = images(rng, (2, 8, 8, 3)), rng.random((2, 8, 8)) < 0.7
    for model, inputs in (
        (masked, {"x": array, "mask": kept}),
        (twice, {"inputs": array}),
    ):
        randomized(model)
        path = export.export_onnx(model, tmp_path / "m.onnx", overwrite=True)
        assert not compact_nodes(path)
        given = list(inputs.values())
        expected = numpy(model(given if len(given) > 1 else given[0]))
        found = export.run_onnx(path, inputs)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("opset", [12, 13, 18, 23])
def test_opsets(tmp_path, opset):
    model = small()
    path = export.export_onnx(model, tmp_path / "m.onnx", opset=opset)
    assert bool(compact_nodes(path)) == (opset > 12)
    close(path, model, images(np.random.default_rng(0), (3, 8, 8, 3)))


@pytest.mark.parametrize("shape", [(6, 3), (4, 4, 4, 3)])
def test_other_ranks(tmp_path, shape):
    x = keras.Input(shape)
    model = randomized(keras.Model(x, ExemplarNormalization(name="norm")(x)))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert not compact_nodes(path)
    x = images(np.random.default_rng(0), (3, *shape))
    np.testing.assert_allclose(
        export.run_onnx(path, x), numpy(model(x)), atol=1e-5, rtol=1e-4
    )
