"""Copies in other dtypes; what identifies a graph."""

from operator import attrgetter

import keras
import numpy as np
import onnx
import pytest

from keras_en.export.calls import nodes_of_calls
from keras_en.export.onnx import graph as onnx_graph
from keras_en.export.precision import computing_in
from keras_en.export.saved_model import graph as tensorflow_graph
from keras_en.keras_private import layers_of
from tests.backends import images, numpy
from tests.export.networks import residual, two_sided

pytestmark = pytest.mark.tensorflow


def test_by_hand():
    """2048 + 1 is no number of float16."""
    x = keras.Input((1,))
    model = keras.Model(x, keras.layers.Dense(1, dtype="float16")(x))
    model.set_weights([np.array([[1.0]]), np.array([1.0])])
    values = np.array([[2048.0]], "float32")
    assert numpy(model(values)) == 2048
    assert numpy(computing_in(model, "float32")(values)) == 2049


def test_a_model_in_the_dtype_is_itself(model):
    assert computing_in(model, "float32") is model


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize("build", [residual, two_sided])
def test_copies_in_float32(policy, build):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = build()
    finally:
        keras.config.set_dtype_policy("float32")
    exact, copy = build(), computing_in(mixed, "float32")
    assert {v.dtype for v in copy.variables if v.dtype != "uint32"} == {"float32"}
    for new, old in zip(exact.variables, mixed.variables, strict=True):
        new.assign(keras.ops.cast(old, new.dtype))
    rng = np.random.default_rng(0)
    inputs = [images(rng, (2, 8, 8, 3)), images(rng, (2, 5))][: len(copy.inputs)]
    names = [x.name for x in copy.inputs]
    inputs = dict(zip(names, inputs, strict=True)) if len(names) > 1 else inputs[0]
    for a, b in zip(
        keras.tree.flatten(copy(inputs)), keras.tree.flatten(exact(inputs)), strict=True
    ):
        np.testing.assert_array_equal(numpy(a), numpy(b))
    assert keras.config.dtype_policy().name == "float32"


def test_a_copy_in_float64(model):
    exact = computing_in(model, "float64")
    x = images(np.random.default_rng(0), (3, 8, 8, 3))
    y = numpy(exact(x))
    assert y.dtype == "float64"
    np.testing.assert_allclose(numpy(model(x)), y, rtol=1e-4, atol=1e-5)
    assert np.abs(y - y.astype("float32")).max() > 0


def test_nested_models_and_inner_layers_are_copied():
    class Block(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    keras.config.set_dtype_policy("mixed_float16")
    try:
        x = keras.Input((4,))
        inner = keras.Sequential([keras.layers.Dense(4), Block()])
        mixed = keras.Model(x, inner(x))
    finally:
        keras.config.set_dtype_policy("float32")
    copy = computing_in(mixed, "float32")
    for layer in layers_of(copy):
        assert layer.compute_dtype == "float32", layer.name


@pytest.mark.parametrize("kind", ["numbers", "text"])
def test_what_layers_learned_beside_their_weights_is_copied(kind):
    if kind == "numbers":
        inputs, layer = np.array([[3], [7]]), keras.layers.IntegerLookup()
    else:
        inputs = keras.ops.convert_to_tensor([["a b"], ["b"]])
        layer = keras.layers.TextVectorization(output_sequence_length=3)
    layer.adapt(inputs)
    x = keras.Input((1,), dtype=inputs.dtype.name)
    y = keras.layers.Embedding(9, 4, dtype="mixed_float16")(layer(x))
    model = keras.Model(x, y)
    copy = computing_in(model, "float32")
    assert copy is not model
    np.testing.assert_allclose(numpy(copy(inputs)), numpy(model(inputs)), atol=1e-3)
    rows = numpy(copy(inputs)).reshape(2, -1)
    assert np.abs(rows[0] - rows[1]).max() > 1e-2


def test_what_cannot_be_copied_is_named():
    class Stubborn(keras.layers.Layer):
        def __init__(self):
            super().__init__(dtype="float16", name="stubborn")

        def call(self, x):
            return x

        def get_config(self):
            return {}

    x = keras.Input((4,))
    with pytest.raises(ValueError, match="copied to float32.*stubborn"):
        computing_in(keras.Model(x, Stubborn()(x)), "float32")


def relabelled(proto):
    """The same graph with other names and its nodes in another order."""
    new = onnx.ModelProto()
    new.CopyFrom(proto)
    ports = {v.name for v in (*proto.graph.input, *proto.graph.output)} | {""}
    for node in new.graph.node:
        node.name += "x"
        node.input[:] = [t if t in ports else t + "x" for t in node.input]
        node.output[:] = [t if t in ports else t + "x" for t in node.output]
    for tensor in new.graph.initializer:
        tensor.name += "x"
    new.graph.initializer.append(new.graph.initializer.pop(0))
    return new


def test_onnx_hashes(onnx_file):
    proto = onnx.load(str(onnx_file))
    first = onnx_graph.graph_hash(proto)
    assert onnx_graph.graph_hash(relabelled(proto)) == first
    others = []
    for change in (
        lambda p: p.graph.initializer[0].dims.append(1),
        lambda p: setattr(p.graph.node[3], "op_type", "Abs"),
        lambda p: setattr(p.opset_import[0], "version", 16),
        lambda p: setattr(
            p.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 9
        ),
    ):
        other = onnx.load(str(onnx_file))
        change(other)
        others.append(onnx_graph.graph_hash(other))
    assert len({first, *others}) == 5


def test_tensorflow_hashes():
    import tensorflow as tf

    def hashed(function):
        spec = tf.TensorSpec((None, 3), "float32", name="x")
        concrete = tf.function(function, input_signature=[spec]).get_concrete_function()
        graph = concrete.graph.as_graph_def()
        return tensorflow_graph.Graph(graph).hash({"y": concrete.outputs[0].name})

    inner = tf.function(lambda x: x * 2)
    first = hashed(lambda x: tf.abs(inner(x)) + 1)
    assert first == hashed(lambda x: tf.abs(inner(x), name="other") + 1)
    for other in (
        lambda x: tf.abs(inner(x)) + 2,
        lambda x: tf.abs(inner(x)) - 1,
        lambda x: tf.abs(tf.function(lambda x: x * 3)(x)) + 1,
        lambda x: 1 + tf.abs(inner(x)),
    ):
        assert hashed(other) != first


def test_nodes_are_counted_for_each_call_of_a_layer():
    names = ["net/norm/a", "net/norm/b", "net/norm_1/a", "x/norm_1_1/a", "norm", "c/d"]
    assert nodes_of_calls(names, {"norm": "EN", "norm_1": "BN"}) == {
        ("norm", "net/norm"): 2,
        ("norm_1", "net/norm_1"): 1,
        ("norm_1", "x/norm_1_1"): 1,
    }


def test_a_graph_with_a_loop_or_a_hole_is_an_error():
    from tensorflow.core.framework.graph_pb2 import GraphDef

    from keras_en.export.saved_model.graph import Graph

    for source, words in (("a", "has a loop"), ("b", "has no node 'b'")):
        graph = GraphDef()
        graph.node.add(name="a", op="Identity", input=[source])
        with pytest.raises(ValueError, match=words):
            Graph(graph).hash({"y": "a:0"})


def test_one_line_holds_no_terminal_escapes():
    from keras_en.text import one_line

    assert one_line(ValueError("a\x1b[31m\nb\x07")) == "a b"


@pytest.mark.parametrize("record", ["null", "[]", '"a"', '{"layers": []}', "{"])
def test_a_record_of_another_form_is_an_error(saved_model, tmp_path, record):
    import shutil

    from keras_en.export import facts, inspect

    shutil.copytree(saved_model, tmp_path / "1")
    (tmp_path / "1" / facts.FILE).write_text(record)
    with pytest.raises(ValueError):
        inspect(tmp_path / "1")


@pytest.mark.parametrize("key", ["layers", "options", "graph_hash"])
def test_metadata_of_others_may_have_the_same_names(onnx_file, tmp_path, key):
    from keras_en import export

    proto = onnx.load(str(onnx_file))
    del proto.metadata_props[:]
    proto.metadata_props.add(key=key, value='[{"a": 1}]')
    proto.metadata_props.add(key="author", value="someone")
    onnx.save(proto, str(tmp_path / "m.onnx"))
    assert export.inspect(tmp_path / "m.onnx").record == {"author": "someone"}
    proto.metadata_props.add(key="library", value="keras_en")
    onnx.save(proto, str(tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match="cannot be read: its record must be"):
        export.inspect(tmp_path / "m.onnx")


def test_a_record_does_not_hide_what_is_measured(onnx_file, tmp_path, capsys):
    from keras_en import cli

    proto = onnx.load(str(onnx_file))
    del proto.metadata_props[:]
    for key in ("signatures", "kind", "nodes"):
        proto.metadata_props.add(key=key, value="other")
    onnx.save(proto, str(tmp_path / "m.onnx"))
    assert cli.main(["inspect", str(tmp_path / "m.onnx")]) == 0
    printed = capsys.readouterr().out
    assert "other" not in printed and "inputs" not in printed.split("<-")[0]


def test_options_of_a_record_are_those_of_the_export():
    import inspect

    from keras_en.export import export_onnx, export_saved_model, facts

    for kind, export in (("ONNX", export_onnx), ("SavedModel", export_saved_model)):
        assert set(facts.OPTIONS[kind]._fields) < set(
            inspect.signature(export).parameters
        )
    for options in ({"path": "a"}, {"opset": "17"}, {"opset": True}, {"fp16": 1}):
        with pytest.raises(ValueError, match="options must be among"):
            facts.options_of({"options": options}, "ONNX")
    options = {"opset": 17, "image_size": None}
    assert facts.options_of({"options": options}, "ONNX") is options


def test_identities_are_not_part_of_an_onnx_hash():
    """The converter puts them before other outputs of a loop from run to run."""

    def hashed(*nodes):
        x, y = (
            onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1])
            for n in "xy"
        )
        nodes = [onnx.helper.make_node(*node) for node in nodes]
        body = onnx.helper.make_graph(nodes, "body", [], [y])
        condition = onnx.numpy_helper.from_array(np.array(True), "c")
        branch = onnx.helper.make_node(
            "If", ["c"], ["y"], then_branch=body, else_branch=body
        )
        graph = onnx.helper.make_graph([branch], "g", [x], [y], [condition])
        return onnx_graph.graph_hash(onnx.helper.make_model(graph))

    first = hashed(("Abs", ["x"], ["y"]))
    assert hashed(("Identity", ["x"], ["a"]), ("Abs", ["a"], ["y"])) == first
    assert hashed(("Abs", ["x"], ["a"]), ("Identity", ["a"], ["y"])) == first
    assert hashed(("Neg", ["x"], ["y"])) != first


def test_a_function_that_calls_itself_is_an_error():
    from tensorflow.core.framework.graph_pb2 import GraphDef

    from keras_en.export.saved_model.graph import Graph

    graph = GraphDef()
    function = attrgetter("library.function")(graph).add()
    function.signature.name = "f"
    function.signature.output_arg.add(name="y")
    function.ret["y"] = "a:0"
    for nodes in (graph.node, function.node_def):
        node = nodes.add(name="a", op="PartitionedCall")
        node.attr["f"].func.name = "f"
    with pytest.raises(ValueError, match="function 'f' calls itself"):
        Graph(graph).hash({"y": "a:0"})


def test_weights_of_an_onnx_file_are_beside_it(tmp_path):
    """Whatever it names."""
    from keras_en import export

    (tmp_path / "secret").write_bytes(bytes(4))
    (tmp_path / "in").mkdir()
    x, y = (
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"
    )
    add = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    for place in ("../secret", str(tmp_path / "secret")):
        weight = onnx.numpy_helper.from_array(np.zeros(1, "float32"), "w")
        onnx.external_data_helper.set_external_data(weight, place)
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        graph = onnx.helper.make_graph([add], "g", [x], [y], [weight])
        path = tmp_path / "in" / "m.onnx"
        path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
        with pytest.raises(ValueError, match="cannot be read"):
            export.inspect(path)


def test_a_copy_has_arrays_of_its_own(rng):
    x = images(rng, (2, 3))
    layers = [keras.layers.Dense(2), keras.layers.Lambda(lambda t: 2 * t)]
    mixed = keras.Sequential([keras.Input((3,)), *layers])
    for layer in layers:
        layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    copy = computing_in(mixed, "float32")
    np.testing.assert_allclose(numpy(copy(x)), numpy(mixed(x)), rtol=0.02, atol=0.02)
    for one, other in zip(copy.variables, mixed.variables, strict=True):
        assert one.value is not other.value


def test_quantized_layers_stay_quantized(rng):
    x = images(rng, (2, 8))
    layers = [keras.layers.Dense(8, dtype="mixed_bfloat16")]
    mixed = keras.Sequential([keras.Input((8,)), *layers])
    mixed.layers[0].quantize("int8")
    copy = computing_in(mixed, "float32")
    assert copy.layers[0].dtype_policy.name == "int8_from_float32"
    np.testing.assert_allclose(numpy(copy(x)), numpy(mixed(x)), rtol=0.02, atol=0.02)
