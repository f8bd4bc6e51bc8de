"""Gates 2, 3 and 6: what can be seen of an artefact without running it."""

import json

import keras
import numpy as np
import onnx
import pytest

from keras_en import ExemplarNormalization, export
from keras_en.export.onnx import graph as onnx_graph
from keras_en.export.parity import static
from keras_en.export.parity.checks import FAILED, Unequal, VariablesChanged, check
from tests.export.networks import randomized, small

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def small_onnx(tmp_path_factory):
    model = small()
    return model, export.export_onnx(model, tmp_path_factory.mktemp("s") / "m.onnx")


def test_by_hand(tmp_path):
    """One node and no weight."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    artefact = export.inspect(export.export_onnx(model, tmp_path / "m.onnx"))
    assert static.nothing_random(artefact) == ("1 nodes", {"nodes": 1})
    assert static.well_formed(artefact, model) == ("open: batch", {})
    text, _ = static.same_graph(artefact, model)
    assert artefact.graph_hash.startswith(text) and len(text) == 16


def changed(path, tmp_path, change):
    proto = onnx.load(str(path))
    change(proto)
    onnx.save(proto, str(tmp_path / "changed.onnx"))
    return export.inspect(tmp_path / "changed.onnx")


def served(path, function, *variables):
    """A SavedModel of any function of `(None, 3)`, which our export would refuse."""
    import tensorflow as tf

    module = tf.Module()
    module.held = variables
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
        with pytest.raises(Unequal, match=words):
            static.no_side_effects(artefact)
    static.no_side_effects(served(tmp_path / "right", tf.abs))
    x = np.ones((1, 3), "float32")
    with pytest.raises(VariablesChanged, match="variables changed while serving"):
        export.run_saved_model(tmp_path / "assigns", x)


def test_gate_2_random_onnx_fails():
    node = onnx.helper.make_node("RandomNormal", [], ["y"], name="noise", shape=[1])
    graph = onnx.helper.make_graph([node], "g", [], [])
    assert onnx_graph.unservable(onnx.helper.make_model(graph)) == [
        "noise is random (RandomNormal)"
    ]


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


def test_gate_6_another_graph_fails(small_onnx, tmp_path):
    model, path = small_onnx
    static.same_graph(export.inspect(path), model)

    def other_constant(proto):
        array = onnx.numpy_helper.to_array(proto.graph.initializer[-1])
        tensor = onnx.numpy_helper.from_array(
            array + 1, proto.graph.initializer[-1].name
        )
        proto.graph.initializer[-1].CopyFrom(tensor)

    with pytest.raises(Unequal, match="not the one that was exported"):
        static.same_graph(changed(path, tmp_path, other_constant), model)
    with pytest.raises(Unequal, match="another export of the model"):
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

    with pytest.raises(Unequal, match="at most 70 are allowed"):
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
    artefact = export.inspect(export.export_onnx(model, tmp_path / "m.onnx"))
    compact, converted = sorted(artefact.nodes_of_layers["ExemplarNormalization"])
    assert compact < 45 and converted > static.NODES
    text, most = static.few_nodes(artefact)
    assert most == {"ExemplarNormalization": converted} and str(converted) in text


def test_gate_6_takes_options_of_the_export_only(small_onnx, tmp_path):
    model, path = small_onnx
    for options in ({"path": "a"}, {"model": None}, {"opset": "17"}):
        text = json.dumps(options)

        def foreign(proto, text=text):
            for entry in proto.metadata_props:
                if entry.key == "options":
                    entry.value = text

        artefact = changed(path, tmp_path, foreign)
        checked = check(6, "graph", static.same_graph, artefact, model)
        assert checked.status == FAILED and "options must be among" in checked.detail
