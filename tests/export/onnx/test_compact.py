"""The compact form of a layer against the layer, for every kind of layer."""

import functools

import keras
import numpy as np
import onnx
import pytest

from keras_en import ExemplarNormalization, export
from keras_en.export.parity.cases import OFFSET
from tests.backends import images, numpy, randomize
from tests.export.networks import randomized, small

pytestmark = pytest.mark.tensorflow


def compact_nodes(path):
    return [n for n in onnx.load(str(path)).graph.node if n.name.startswith("norm/en/")]


def test_by_hand(tmp_path):
    """Both channels have the variance 1, and `(x - mean) / sqrt(1 + 3)` is 0.5."""
    x = keras.Input((2, 2))
    norm = ExemplarNormalization(normalizers=("instance",), epsilon=3.0, name="norm")
    path = export.export_onnx(keras.Model(x, norm(x)), tmp_path / "m.onnx")
    assert compact_nodes(path)
    outputs = export.run_onnx(path, np.array([[[1, 10], [3, 12]]], "float32"))
    np.testing.assert_allclose(outputs, [[[-0.5, -0.5], [0.5, 0.5]]], rtol=1e-6)


def close(path, model, x):
    for inputs in (x, x + OFFSET):
        expected = numpy(model(inputs))
        np.testing.assert_allclose(
            export.run_onnx(path, inputs), expected, atol=1e-5, rtol=1e-4
        )


@pytest.mark.thorough(4)
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
        {"normalizers": ("instance", "group", "batch"), "groups": 2},
        {"normalizers": ("group",), "groups": 4, "reduction": None},
        {"ratio_head": "mlp"},
        {"ratio_head": "mlp", "normalizers": ("instance",)},
        {"normalizers": ("group", "batch", "layer", "instance"), "groups": 8},
    ],
    ids=str,
)
def test_kinds_of_layers(tmp_path, options):
    model = small(norm=functools.partial(ExemplarNormalization, **options))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert 10 < len(compact_nodes(path)) <= 55
    # Runtimes compute in place where they know that shapes are equal.
    proto = onnx.shape_inference.infer_shapes(onnx.load(str(path)), strict_mode=True)
    dims = [d for v in proto.graph.value_info for d in v.type.tensor_type.shape.dim]
    assert {d.dim_param for d in dims if not d.dim_value} == {"batch"}
    close(path, model, images(np.random.default_rng(0), (3, 8, 8, 3)))


@pytest.mark.parametrize(
    "options",
    [
        {"ratio_activation": "gelu"},
        {"ratio_activation": lambda x: x},
    ],
    ids=["gelu", "own"],
)
def test_other_kinds_stay_as_they_are(tmp_path, options):
    model = small(norm=functools.partial(ExemplarNormalization, **options))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert not compact_nodes(path)
    close(path, model, images(np.random.default_rng(0), (3, 8, 8, 3)))


def test_masked_layers_stay_as_they_are(tmp_path):
    x = keras.Input((8, 8, 3), name="x")
    mask = keras.Input((8, 8), dtype="bool", name="mask")
    conv = keras.layers.Conv2D(3, 3, padding="same")
    norm = ExemplarNormalization(name="norm")
    # An operation, behind which Keras carries no mask on.
    y = conv(keras.ops.abs(norm(conv(x), mask=mask)))
    model = randomized(keras.Model([x, mask], y))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert not compact_nodes(path)
    rng = np.random.default_rng(0)
    x, mask = images(rng, (2, 8, 8, 3)), rng.random((2, 8, 8)) < 0.7
    outputs = export.run_onnx(path, {"x": x, "mask": mask})
    expected = numpy(model([x, mask]))
    np.testing.assert_allclose(outputs, expected, atol=1e-5, rtol=1e-4)


def encoder(name):
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(3, 3, padding="same"),
        ExemplarNormalization(name="norm"),
    ]
    return keras.Sequential(layers, name=name)


@pytest.mark.parametrize("fp16", [False, True])
def test_every_call_has_a_form_of_its_own(tmp_path, fp16):
    x, y = keras.Input((8, 8, 3), name="x"), keras.Input((8, 8, 3), name="y")
    norm, twice = ExemplarNormalization(name="twice"), encoder("twin")
    z = keras.layers.Add()([twice(norm(x)), twice(norm(y))])
    model = randomized(keras.Model([x, y], z))
    path = export.export_onnx(model, tmp_path / "m.onnx", fp16=fp16)
    counts = export.inspect(path).nodes_of_layers["ExemplarNormalization"]
    assert len(counts) == 4 and min(counts) > 30 and max(counts) <= 44
    names = {n.name.split("/en/")[0] for n in onnx.load(str(path)).graph.node}
    assert {"twice", "twice_1", "twin/norm", "twin_1/norm"} <= names
    rng = np.random.default_rng(0)
    inputs = {"x": images(rng, (2, 8, 8, 3)), "y": images(rng, (2, 8, 8, 3))}
    tolerance = 2e-2 if fp16 else 1e-5
    np.testing.assert_allclose(
        export.run_onnx(path, inputs),
        numpy(model(list(inputs.values()))),
        atol=tolerance,
        rtol=1e-4,
    )


def test_layers_are_not_mistaken_for_each_other(tmp_path):
    """Of one name; and a second call of "norm" beside a first one of "norm_1"."""
    conv = keras.layers.Conv2D(3, 3, padding="same")
    norm, other = (ExemplarNormalization(name=name) for name in ("norm", "norm_1"))
    x = keras.Input((8, 8, 3))
    y = norm(conv(norm(encoder("b")(encoder("a")(x)))))
    model = randomized(keras.Model(x, other(conv(y))))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    counts = export.inspect(path).nodes_of_layers["ExemplarNormalization"]
    assert len(counts) == 5 and max(counts) <= 41
    close(path, model, images(np.random.default_rng(0), (3, 8, 8, 3)))


@pytest.mark.parametrize("opset", [12, 13, 18, 23])
def test_opsets(tmp_path, opset):
    model = small()
    path = export.export_onnx(model, tmp_path / "m.onnx", opset=opset)
    assert bool(compact_nodes(path)) == (opset > 12)
    close(path, model, images(np.random.default_rng(0), (3, 8, 8, 3)))


@pytest.mark.parametrize(
    "shape, axis",
    [
        ((3,), -1),
        ((6, 3), -1),
        ((3, 6), 1),
        ((4, 5, 3), -1),
        ((3, 4, 5), 1),
        ((4, 3, 5), 2),
        ((4, 4, 4, 3), -1),
        ((4, 4, 1), -1),
    ],
    ids=str,
)
def test_layouts(tmp_path, shape, axis):
    x = keras.Input(shape)
    model = keras.Model(x, ExemplarNormalization(axis, name="norm")(x))
    randomized(model)
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert bool(compact_nodes(path)) == (len(shape) > 1 and x.shape[axis] > 1)
    x = images(np.random.default_rng(0), (3, *shape))
    np.testing.assert_allclose(
        export.run_onnx(path, x), numpy(model(x)), atol=1e-5, rtol=1e-4
    )


def relu(x):
    """Not Keras's."""
    return keras.ops.minimum(keras.ops.relu(x), 0.1)


def test_an_activation_with_the_name_of_another(tmp_path, rng):
    inputs = keras.Input((5, 6, 8))
    model = keras.Model(inputs, ExemplarNormalization(ratio_activation=relu)(inputs))
    randomize(model, rng)
    x = 3 * images(rng, (3, 5, 6, 8))
    path = export.export_onnx(model, tmp_path / "model.onnx")
    np.testing.assert_allclose(export.run_onnx(path, x), numpy(model(x)), atol=1e-5)
