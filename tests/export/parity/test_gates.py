"""Every gate passes what is right, and is broken on purpose."""

import json
import shutil

import keras
import numpy as np
import onnx
import pytest

from keras_en import ExemplarNormalization, export
from keras_en.export.parity import compare, runners, static
from keras_en.export.parity.cases import Case
from keras_en.export.parity.report import PASSED
from tests.backends import images, numpy
from tests.export.networks import randomized, residual, small, two_sided

pytestmark = pytest.mark.tensorflow


def statuses(report, gate):
    return {check.name: check.status for check in report.checks if check.gate == gate}


def failed(report):
    return {(check.gate, check.name) for check in report.failures}


@pytest.mark.parametrize("options", [{}, {"layout": "nchw"}, {"fp16": True}])
def test_an_onnx_file_passes(tmp_path, options):
    model = small((None, None, 3))
    path = export.export_onnx(
        model, tmp_path / "m.onnx", dynamic=("batch", "height", "width"), **options
    )
    report = export.verify(model, path, batches=(1, 3), sizes=[(8, 8), (9, 12)])
    assert report.passed, report.failures
    assert statuses(report, 3) == {"form": PASSED}
    assert statuses(report, 7) == {"OpenVINO": PASSED, "onnxruntime": PASSED}
    assert "random, batch 3, 9 x 12" in statuses(report, 4)
    assert statuses(report, 4)["one pixel, batch 3"] == PASSED
    (nodes,) = [c for c in report.checks if c.name == "nodes"]
    assert nodes.measured["ExemplarNormalization"] <= static.NODES
    again = json.loads(report.to_json())
    assert again["passed"] and len(again["checks"]) == len(report.checks)
    assert report.to_markdown().startswith("# Parity: passed")


def test_several_inputs_and_outputs_pass(tmp_path):
    model = two_sided()
    path = export.export_onnx(model, tmp_path / "m.onnx")
    report = export.verify(model, path, batches=(2,))
    assert report.passed, report.failures


def test_gate_1_keras_s_own_saved_model_fails(tmp_path):
    """`tf.saved_model.save` is not servable: only Python can load it."""
    import tensorflow as tf

    model = small()
    tf.saved_model.save(model, str(tmp_path / "1"))
    report = export.verify(model, tmp_path / "1", batches=(1, 2))
    assert {(1, "graph-mode loader"), (1, "C program")} <= failed(report)
    assert (7, "gRPC PredictionService") in failed(report)
    (check,) = [c for c in report.failures if c.name == "graph-mode loader"]
    assert "Could not find variable" in check.detail
    assert not report.passed and "FAILED" in report.to_markdown()


def test_gate_1_what_needs_keras_fails(tmp_path):
    """The processes really have no Keras."""
    for script in ("python_loader", "session_loader", "prediction_service"):
        text = (runners.PROCESSES / f"{script}.py").read_text()
        assert 'sys.modules["keras"] = sys.modules["keras_en"] = None' in text
    script = tmp_path / "script.py"
    script.write_text(
        (runners.PROCESSES / "python_loader.py")
        .read_text()
        .replace("    import numpy as np\n", "    import keras\n")
    )
    with pytest.raises(RuntimeError, match="import of keras halted"):
        runners._run([runners.sys.executable, script, "a", "b", "c"])


def served(path, function, *variables):
    """A SavedModel of any function of `(None, 3)`, which our export would refuse."""
    import tensorflow as tf

    module = tf.Module()
    module.kept = variables
    spec = tf.TensorSpec((None, 3), "float32", name="inputs")
    signature = tf.function(
        lambda x: {"outputs": function(x)}, input_signature=[spec], autograph=False
    )
    tf.saved_model.save(module, str(path), {"serving_default": signature})
    return export.inspect(path)


def test_gate_2_side_effects_fail(tmp_path):
    import tensorflow as tf

    calls = tf.Variable(0.0)

    def assigning(x):
        with tf.control_dependencies([calls.assign_add(1.0)]):
            return tf.identity(x)

    for name, function, words in (
        ("assigns", assigning, "assigns"),
        ("random", lambda x: x + tf.random.normal(tf.shape(x)), "is random"),
        ("python", lambda x: tf.py_function(abs, [x], tf.float32), "runs Python"),
        ("xla", tf.function(tf.abs, jit_compile=True), "must be compiled by XLA"),
    ):
        artefact = served(tmp_path / name, function, calls)
        with pytest.raises(compare.Unequal, match=words):
            static.no_side_effects(artefact)
    static.no_side_effects(served(tmp_path / "right", tf.abs))
    x = np.ones((1, 3), "float32")
    with pytest.raises(RuntimeError, match="variables changed while serving"):
        export.run_saved_model(tmp_path / "assigns", x)


def test_gate_2_random_onnx_fails():
    node = onnx.helper.make_node("RandomNormal", [], ["y"], name="noise", shape=[1])
    graph = onnx.helper.make_graph([node], "g", [], [])
    from keras_en.export.onnx import graph as onnx_graph

    assert onnx_graph.unservable(onnx.helper.make_model(graph)) == [
        "noise is random (RandomNormal)"
    ]


@pytest.fixture(scope="module")
def small_onnx(tmp_path_factory):
    model = small()
    return model, export.export_onnx(model, tmp_path_factory.mktemp("s") / "m.onnx")


def changed(path, tmp_path, change):
    proto = onnx.load(str(path))
    change(proto)
    onnx.save(proto, str(tmp_path / "changed.onnx"))
    return export.inspect(tmp_path / "changed.onnx")


def test_gate_3_form_fails(small_onnx, tmp_path):
    model, path = small_onnx

    def other_name(proto):
        proto.graph.node[-1].output[0] = proto.graph.output[0].name = "logits"

    def other_domain(proto):
        proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))

    def wrong_size(proto):
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11

    def unnamed_size(proto):
        proto.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")

    def unknown_operator(proto):
        proto.graph.node[0].op_type = "Nothing"

    static.well_formed(export.inspect(path), model)
    for change, words in (
        (other_name, "outputs must be .*'outputs'"),
        (other_domain, "domains must be the standard one"),
        (wrong_size, "[Ii]nferred shape"),
        (unnamed_size, "an open size has no name"),
        (unknown_operator, "Nothing"),
    ):
        with pytest.raises(Exception, match=words):
            static.well_formed(changed(path, tmp_path, change), model)


def test_gate_4_other_weights_fail(small_onnx):
    _, path = small_onnx
    other = small()
    other.layers[0].kernel.assign(other.layers[0].kernel + 1e-3)
    report = export.verify(other, path, batches=(2,))
    assert (4, "random, batch 2") in failed(report)
    assert (7, "OpenVINO") in failed(report)
    assert {gate for gate, _ in failed(report)} == {4, 6, 7}


def test_gate_4_bounds():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    reference = compare.Reference(model, None, atol=1e-5, rtol=1e-4)
    y = np.array([[1.0, 2.0, -3.0]], "float32")
    case = Case("a", "random", {"inputs": y})
    reference.compare({"outputs": y + np.array([1e-4, -2e-4, 3e-4])}, case)
    for wrong, words in (
        (y + 3e-4, "allowed 1.1e-04"),
        (y * np.nan, "nan"),
        (y[:, :2], "shape must be"),
    ):
        with pytest.raises(compare.Unequal, match=words):
            reference.compare({"outputs": wrong}, case)
    with pytest.raises(compare.Unequal, match="outputs must be"):
        reference.compare({"logits": y}, case)


def test_gate_4_another_class_fails():
    """By less than is allowed for a number."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    reference = compare.Reference(model, None, atol=0.1, rtol=0.0)
    for gap, fails in ((0.005, False), (0.02, True)):
        y = np.array([[1.0, 1.0 + gap], [0.0, 1.0]], "float32")
        outputs = {"outputs": y + [[gap, -gap], [0, 0]]}
        case = Case(str(gap), "random", {"inputs": y})
        if fails:
            with pytest.raises(compare.Unequal, match="1 samples have another class"):
                reference.compare(outputs, case)
        else:
            reference.compare(outputs, case)


def test_gate_4_is_no_stricter_than_the_model_s_own_rounding():
    """A model that loses digits: its float64 copy says how many."""
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Rescaling(1e6)((x + 1e4) - 1e4))
    from keras_en.export.precision import computing_in

    exact = computing_in(model, "float64")
    reference = compare.Reference(model, exact, atol=1e-5, rtol=1e-4)
    given = images(np.random.default_rng(0), (4, 3))
    case = Case("a", "random", {"inputs": given})
    y32, y64 = reference.outputs(case)
    own = np.abs(y32["outputs"] - y64["outputs"]).max()
    assert own > 100
    _, measured = reference.compare({"outputs": y64["outputs"].astype("float32")}, case)
    assert measured["model_error"] == pytest.approx(own)
    with pytest.raises(compare.Unequal):
        reference.compare({"outputs": y32["outputs"] + 3 * own}, case)


def test_gate_4_knows_what_the_last_bit_of_an_input_does():
    """A model that is exact in float32, and magnifies its input."""
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Rescaling(2.0**20)(x - 1.0))
    from keras_en.export.precision import computing_in

    reference = compare.Reference(model, computing_in(model, "float64"), 1e-5, 1e-4)
    case = Case("a", "random", {"inputs": np.full((4, 3), 1.0, "float32")})
    y = reference.outputs(case)[0]["outputs"]
    bit = 2.0**20 * 2.0**-23
    _, measured = reference.compare({"outputs": y + bit}, case)
    assert (measured["model_error"], measured["last_bit"]) == (0.0, bit)
    with pytest.raises(compare.Unequal):
        reference.compare({"outputs": y + 3 * bit}, case)


def test_gate_4_is_not_held_to_rounding_that_cancels_by_chance():
    """Equal samples round equally: they are one draw, which may be a lucky one."""
    x = keras.Input((64,))
    y = x
    for width in [64] * 24 + [1]:
        y = keras.layers.Dense(width, kernel_initializer="orthogonal")(y)
    model = keras.Model(x, y)
    from keras_en.export.precision import computing_in

    exact = computing_in(model, "float64")
    many = images(np.random.default_rng(0), (1000, 64))
    errors = np.abs(numpy(model(many)) - numpy(exact(many)))
    lucky = np.repeat(many[[errors.argmin()]], 16, axis=0)
    reference = compare.Reference(model, exact, 0.0, 0.0)
    case = Case("a", "constant", {"inputs": lucky})
    y = reference.outputs(case)[0]["outputs"]
    usual = np.median(errors)
    _, measured = reference.compare({"outputs": y + usual}, case)
    assert measured["model_error"] < usual / 5 < measured["last_bit"]
    with pytest.raises(compare.Unequal):
        reference.compare({"outputs": y + 8 * usual}, case)


def test_gate_5_samples_that_depend_on_each_other_fail(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.UnitNormalization(axis=0)(x))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    report = export.verify(model, path, batches=(3,))
    assert failed(report) == {(5, "alone")}


def test_gate_5_an_order_that_matters_fails(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.cumsum(x, axis=0))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    report = export.verify(model, path, batches=(3,))
    assert failed(report) == {(5, "alone"), (5, "order")}


def test_gate_6_another_graph_fails(small_onnx, tmp_path):
    model, path = small_onnx
    static.same_graph(export.inspect(path), model)

    def other_constant(proto):
        array = onnx.numpy_helper.to_array(proto.graph.initializer[-1])
        tensor = onnx.numpy_helper.from_array(
            array + 1, proto.graph.initializer[-1].name
        )
        proto.graph.initializer[-1].CopyFrom(tensor)

    with pytest.raises(compare.Unequal, match="not the one that was exported"):
        static.same_graph(changed(path, tmp_path, other_constant), model)
    with pytest.raises(compare.Unequal, match="another export of the model"):
        static.same_graph(
            export.inspect(path), small(norm=keras.layers.BatchNormalization)
        )


def test_gate_6_too_many_nodes_fail(small_onnx, tmp_path):
    _, path = small_onnx
    static.few_nodes(export.inspect(path))

    def more(proto):
        last = proto.graph.node.pop()
        value = last.input[0]
        for i in range(static.NODES):
            node = onnx.helper.make_node("Identity", [value], [f"n{i}"], f"norm/n{i}")
            proto.graph.node.append(node)
            value = f"n{i}"
        last.input[0] = value
        proto.graph.node.append(last)

    with pytest.raises(compare.Unequal, match="at most 70 are allowed"):
        static.few_nodes(changed(path, tmp_path, more))


def test_gate_6_counts_the_compact_forms(tmp_path):
    """gelu has none, and more nodes as they are converted."""
    options = {"normalizers": ("instance", "layer", "group", "batch"), "groups": 3}
    layers = [
        keras.Input((8, 8, 3)),
        ExemplarNormalization(name="en"),
        ExemplarNormalization(name="gelu", ratio_activation="gelu", **options),
    ]
    model = randomized(keras.Sequential(layers))
    found = export.inspect(export.export_onnx(model, tmp_path / "m.onnx"))
    compact, converted = sorted(found.nodes_of_layers["ExemplarNormalization"])
    assert compact < 45 and converted > static.NODES
    text, most = static.few_nodes(found)
    assert most == {"ExemplarNormalization": converted} and str(converted) in text


def test_gate_7_what_a_client_sees(saved_model):
    from keras_en.export.saved_model import warmup

    image = np.zeros((2, 8, 8, 3), "float32")
    good = [
        ("serving_default", {"inputs": image}),
        ("ratios", {"inputs": image}),
        ("serving_bytes", {"image_bytes": warmup.images(2)}),
    ]
    found = runners.prediction_service(saved_model, good)
    assert [len(outputs) for outputs in found] == [1, 10, 1]
    garbage = np.array([b"no image"], object)
    with pytest.raises(RuntimeError, match="[Uu]nknown image"):
        runners.prediction_service(
            saved_model, [("serving_bytes", {"image_bytes": garbage})]
        )


def test_bad_arguments(model, saved_model, onnx_file, tmp_path):
    for wrong in (tmp_path, tmp_path / "m.onnx", saved_model.parent):
        with pytest.raises(FileNotFoundError, match="SavedModel's version.*Received"):
            export.verify(model, wrong)
    (tmp_path / "m.onnx").write_bytes(b"no onnx")
    with pytest.raises(ValueError, match="m.onnx is not an ONNX file"):
        export.inspect(tmp_path / "m.onnx")
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a SavedModel"):
        export.inspect(tmp_path)
    with pytest.raises(ValueError, match="inputs and outputs of the model"):
        export.verify(two_sided(), onnx_file)
    with pytest.raises(ValueError, match="`signature` must be one of"):
        export.run_saved_model(saved_model, np.zeros(1), signature="nothing")


def test_every_network_has_the_same_graph_twice(saved_model, tmp_path):
    """In another process, from a file."""
    model = residual()
    model.save(tmp_path / "m.keras")
    code = (
        "import sys, keras_en; from keras_en import export;"
        "p = export.export_saved_model(sys.argv[1], sys.argv[2], mean=[0.4, 0.5, 0.6],"
        " std=0.25, warmup_requests=False); print(export.inspect(p).graph_hash)"
    )
    done = runners.subprocess.run(
        [runners.sys.executable, "-c", code, tmp_path / "m.keras", tmp_path / "again"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == export.inspect(saved_model).graph_hash
    shutil.rmtree(tmp_path / "again")
