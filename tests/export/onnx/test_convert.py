"""ONNX files: every option, in onnxruntime."""

import json

import keras
import numpy as np
import onnx
import pytest
from onnx import reference

from keras_en import ExemplarNormalization, export
from keras_en.export.onnx import graph as onnx_graph
from tests.backends import images, numpy
from tests.export.networks import check_two_sided, linear, residual, small, two_sided

pytestmark = pytest.mark.tensorflow


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-4)


def test_by_hand(tmp_path):
    """`2 x + 3`, for 1 and 5."""
    path = export.export_onnx(linear(), tmp_path / "m.onnx")
    outputs = export.run_onnx(path, np.array([[1.0], [5.0]], "float32"))
    np.testing.assert_array_equal(outputs, [[5.0], [13.0]])


@pytest.fixture(scope="module", params=["en", "sn", "bn"])
def network(request):
    return residual(request.param)


@pytest.fixture
def x():
    return images(np.random.default_rng(0), (3, 8, 8, 3))


@pytest.mark.thorough
def test_any_batch_and_standard_operators_only(network, tmp_path):
    path = export.export_onnx(network, tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    assert [(e.domain, e.version) for e in proto.opset_import] == [("", 17)]
    assert export.inspect(path).signatures["serving_default"] == (
        {"inputs": ("float32", ["batch", 8, 8, 3])},
        {"outputs": ("float32", ["batch", 10])},
    )
    for n in (1, 7, 32):
        x = images(np.random.default_rng(n), (n, 8, 8, 3))
        close(export.run_onnx(path, x), numpy(network(x)))


@pytest.mark.parametrize("opset", [9, 11, 13, 18, 19, 21, 23])
def test_opsets(tmp_path, x, opset):
    model = small()
    path = export.export_onnx(model, tmp_path / "m.onnx", opset=opset)
    proto = onnx.load(str(path))
    assert proto.opset_import[0].version == opset
    onnx_graph.check(path, proto)
    close(export.run_onnx(path, x), numpy(model(x)))


def test_layout(tmp_path):
    model = residual("en", (None, None, 3), include_top=False, pooling=None)
    path = export.export_onnx(
        model,
        tmp_path / "m.onnx",
        layout="nchw",
        dynamic=["batch", "height", "width"],
    )
    inputs, outputs = export.inspect(path).signatures["serving_default"]
    assert inputs["inputs"][1] == ["batch", 3, "height", "width"]
    assert len(outputs["outputs"][1]) == 4 and outputs["outputs"][1][1] == 64
    x = images(np.random.default_rng(0), (2, 8, 12, 3))
    y = export.run_onnx(path, x.transpose(0, 3, 1, 2))
    close(y.transpose(0, 2, 3, 1), numpy(model(x)))


def test_sizes(tmp_path):
    model = small((None, None, 3))
    with pytest.raises(ValueError, match="`image_size` or `dynamic` must be given"):
        export.export_onnx(model, tmp_path / "m.onnx")
    path = export.export_onnx(model, tmp_path / "fixed.onnx", image_size=(8, 12))
    inputs, _ = export.inspect(path).signatures["serving_default"]
    assert inputs["inputs"][1] == ["batch", 8, 12, 3]
    path = export.export_onnx(
        model, tmp_path / "open.onnx", image_size=None, dynamic=("height", "width")
    )
    inputs, outputs = export.inspect(path).signatures["serving_default"]
    assert inputs["inputs"][1] == [1, "height", "width", 3]
    assert outputs["outputs"][1] == [1, 10]
    for size in ((8, 12), (5, 7), (1, 1)):
        x = images(np.random.default_rng(0), (1, *size, 3))
        close(export.run_onnx(path, x), numpy(model(x)))


@pytest.mark.thorough
def test_float16(network, tmp_path, x):
    path = export.export_onnx(network, tmp_path / "m.onnx", fp16=True, simplify=True)
    proto = onnx.load(str(path))
    onnx_graph.check(path, proto)
    kinds = [t.data_type for t in proto.graph.initializer]
    assert onnx.TensorProto.FLOAT16 in kinds
    inputs, outputs = export.inspect(path).signatures["serving_default"]
    assert inputs["inputs"][0] == outputs["outputs"][0] == "float32"
    np.testing.assert_allclose(
        export.run_onnx(path, x), numpy(network(x)), atol=1e-2, rtol=1e-4
    )


def in_true_float16(path, x):
    """Not by onnxruntime, which has no float16 on a CPU and drops casts there and
    back."""
    return reference.ReferenceEvaluator(str(path)).run(None, {"inputs": x})[0]


mean_of_300 = keras.initializers.Constant(300.0)


def test_float16_keeps_statistics_in_float32(tmp_path):
    """Where float16 would lose them: 128 x 128 values around 30."""
    x = keras.Input((128, 128, 2))
    model = keras.Model(x, ExemplarNormalization(name="norm")(x))
    path = export.export_onnx(model, tmp_path / "m.onnx", fp16=True)
    rng = np.random.default_rng(0)
    values = (30 + rng.normal(size=(2, 128, 128, 2))).astype("float16")
    values = values.astype("float32")
    outputs, expected = in_true_float16(path, values), numpy(model(values))
    # In float16 b and the sum, about 10, are off by up to 2^-8 each.
    assert np.abs(outputs - expected).max() < 2**-7 + 2**-9
    means = outputs.mean(axis=(1, 2)) - expected.mean(axis=(1, 2))
    assert np.abs(means).max() < 2**-8  # That of b.


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.LayerNormalization(center=False, scale=False),
        keras.layers.GroupNormalization(4, center=False, scale=False),
        keras.layers.BatchNormalization(moving_mean_initializer=mean_of_300),
        keras.layers.Normalization(mean=300.0, variance=1.0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_float16_keeps_normalizations_in_float32(tmp_path, layer):
    """Where float16 would round the inputs to multiples of 0.25."""
    model = keras.Sequential([keras.Input((512,)), layer, keras.layers.ReLU()])
    path = export.export_onnx(model, tmp_path / "m.onnx", fp16=True)
    values = 300 + np.random.default_rng(0).normal(size=(2, 512)).astype("float32")
    outputs, expected = in_true_float16(path, values), numpy(model(values))
    np.testing.assert_allclose(outputs, expected, atol=2**-10, rtol=2**-10)


def test_float16_refuses_control_flow(tmp_path):
    class Looping(keras.layers.Layer):
        def call(self, x):
            ops = keras.ops
            small = lambda v: ops.max(ops.abs(v)) < 10.0  # noqa: E731
            return ops.while_loop(small, lambda v: [2 * v], [x])[0]

    model = keras.Sequential([keras.Input((3,)), Looping()])
    proto = onnx.load(str(export.export_onnx(model, tmp_path / "m.onnx", opset=13)))
    assert [n for n in proto.graph.node if n.op_type in ("Loop", "Scan")]
    with pytest.raises(ValueError, match="must be False for a model with control"):
        export.export_onnx(model, tmp_path / "h.onnx", fp16=True, opset=13)


def test_simplify(tmp_path, x):
    network = small()
    plain = export.export_onnx(network, tmp_path / "m.onnx")
    path = export.export_onnx(network, tmp_path / "s.onnx", simplify=True)
    close(export.run_onnx(path, x), numpy(network(x)))
    count = [len(onnx.load(str(p)).graph.node) for p in (path, plain)]
    assert count[0] <= count[1]


def test_metadata_as_onnxruntime_shows_it(tmp_path):
    import onnxruntime

    path = export.export_onnx(
        small(),
        tmp_path / "m.onnx",
        metadata={"class_names": ["a", "b"], "licence": "Apache-2.0"},
    )
    session = onnxruntime.InferenceSession(str(path))
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["library"] == "keras_en" and facts["licence"] == "Apache-2.0"
    assert json.loads(facts["class_names"]) == ["a", "b"]
    assert json.loads(facts["norm"]) == {"ExemplarNormalization": 1}
    assert json.loads(facts["r"]) == [4]
    assert json.loads(facts["pi"]) == [50]
    assert json.loads(facts["normalizers"]) == [["instance", "layer", "batch"]]
    assert {"version", "keras", "options", "graph_hash"} <= set(facts)


def test_names_are_those_of_the_model(onnx_file):
    proto = onnx.load(str(onnx_file))
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)
    assert proto.graph.name == "cifar_resnet8_en"
    assert "stage1_block1_1_norm/en/sub_2" in names and "stem_relu/Relu" in names
    assert not [name for name in names if "__" in name or "_en_1/" in name]
    tensors = [t.name for t in proto.graph.initializer]
    unscoped = ("constant_", "sizes_", "epsilon_")
    assert all("_norm/en/" in n or n.startswith(unscoped) for n in tensors)


def test_several_inputs_and_outputs(tmp_path):
    check_two_sided(tmp_path / "m.onnx")


def test_outputs_have_the_keys_of_a_dictionary(tmp_path):
    model = two_sided()
    classes, scores = model.outputs
    model = keras.Model(model.input, {"z": classes, "a": scores})
    path = export.export_onnx(model, tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    inputs = {"images": images(rng, (3, 8, 8, 3)), "n": images(rng, (3, 5))}
    outputs, expected = export.run_onnx(path, inputs), model(inputs)
    assert outputs["z"].shape == (3, 3)
    for name in ("a", "z"):
        close(outputs[name], numpy(expected[name]))
    assert export.verify(model, path, batches=(1, 3)).passed


def test_from_a_saved_model(tmp_path, x):
    model = small()
    saved_model = export.export_saved_model(model, tmp_path, warmup_requests=False)
    path = export.export_onnx(saved_model, tmp_path / "m.onnx")
    close(export.run_onnx(path, x), numpy(model(x)))
    artefact = export.inspect(path)
    assert artefact.record["norm"] == {"ExemplarNormalization": 1}
    assert max(artefact.nodes_of_layers["ExemplarNormalization"]) <= 70


def test_from_a_file(tmp_path, x):
    model = small()
    model.save(tmp_path / "m.keras")
    path = export.export_onnx(tmp_path / "m.keras", tmp_path / "m.onnx")
    close(export.run_onnx(path, x), numpy(model(x)))


def test_large_weights_are_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "EXTERNAL", 2_000)
    model = small()
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    (data,) = tmp_path.glob("*.data")
    assert data.stat().st_size > 0.7 * 4 * model.count_params()
    proto = onnx.load(str(path), load_external_data=False)
    names = {tensor.name for tensor in proto.graph.initializer}
    assert {"small/conv/kernel", "small/dense/kernel"} <= names
    x = images(np.random.default_rng(0), (3, 8, 8, 3))
    close(export.run_onnx(path, x), numpy(model(x)))


def test_no_partial_file_is_left(tmp_path):
    model = small()

    def interrupted(path):
        assert path.is_file()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.export_onnx(model, tmp_path / "new" / "m.onnx", check=interrupted)
    assert not any(tmp_path.iterdir())


def test_bad_arguments(model, tmp_path):
    def refused(error, match, path="m.onnx", **kwargs):
        with pytest.raises(error, match=match):
            export.export_onnx(model, tmp_path / path, **kwargs)

    refused(ValueError, "`path` must end in .onnx. Received: .*m.pb", "m.pb")
    for opset in (8, 24, True, "17"):
        refused(ValueError, "`opset` must be an integer from 9 to 23", opset=opset)
    refused(ValueError, "`layout` must be one of.*nhwc", layout="chwn")
    for dynamic in ("batch", ["depth"]):
        refused(ValueError, "`dynamic` must be names of", dynamic=dynamic)
    refused(ValueError, "`dynamic` must not hold 'height'", dynamic=["height"])
    (tmp_path / "m.onnx").write_text("old")
    refused(FileExistsError, "`path` must be new.*m.onnx, which exists")
    assert (tmp_path / "m.onnx").read_text() == "old"
    path = export.export_onnx(model, tmp_path / "m.onnx", overwrite=True)
    assert export.inspect(path).kind == "ONNX"


def test_what_onnx_does_not_know_is_refused(tmp_path):
    class Bessel(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.math.bessel_i0e(x)

    model = keras.Sequential([keras.Input((3,)), Bessel(name="bessel")])
    with pytest.raises(ValueError, match="ONNX form. Received: bessel/.*BesselI0e"):
        export.export_onnx(model, tmp_path / "m.onnx")
    assert not any(tmp_path.iterdir())


def test_gelu(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, keras.activations.gelu(x))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    values = images(np.random.default_rng(0), (4, 3))
    close(export.run_onnx(path, values), numpy(model(values)))
