"""ONNX graphs in float16, with statistics in float32."""

import collections
from typing import Any

import numpy as np

from keras_en.arguments import refused

from ..calls import call_of
from .graph import producers, replace

# What has inputs that are float32 in any precision, by their places.
_FLOAT32_INPUTS = {"Resize": (1, 2)}
# What has no float16 form, or whose inputs may exceed it.
_FLOAT32 = ("CumSum", "NonMaxSuppression", "Range", "RoiAlign")
# What moves numbers and computes none keeps the precision that it finds.
_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
# Of `onnx.TensorProto`.
_SINGLE, _SHORT = 1, 10


def to_float16(proto: Any, layers: Any) -> None:
    """Lets a graph compute in float16, with float32 inputs and outputs.

    Normalizations stay float32: of 112 x 112 float16 numbers neither sums nor squares
    are safe, nor is `x * a + b` where it cancels. Only `(x - m) * a + b` is float16, of
    what was subtracted in float32. Casts stand where one precision meets the other.
    (onnxruntime's own conversion casts what is left in float32 to float16 and back
    behind each node, and so rounds it.)

    Args:
        proto: `onnx.ModelProto`, changed in place.
        layers: Names of the normalizations, in which nodes are called `layer/...`.

    Raises:
        ValueError: The graph has control flow.
    """
    _check_flat(proto.graph)
    new = _Conversion(proto, layers)
    for node in proto.graph.node:
        new.add(node)
    for value in proto.graph.output:
        new.name(value.name, _SINGLE)
    replace(proto.graph.node, new.nodes)
    replace(proto.graph.initializer, new.constants.values())


class _Conversion:
    """The nodes and constants of a graph in which tensors have two precisions.

    A tensor in float32 keeps its name, in float16 it is called `name.float16`;
    `precisions` has those of each that there are, the one it was computed in first.
    """

    def __init__(self, proto, layers):
        import onnx

        graph = onnx.shape_inference.infer_shapes(proto).graph
        values = (*graph.input, *graph.output, *graph.value_info)
        self.floats = {
            v.name for v in values if v.type.tensor_type.elem_type == _SINGLE
        }
        self.weights = {t.name: t for t in graph.initializer if t.data_type == _SINGLE}
        self.exact = _exact(proto.graph, layers)
        inputs = [v.name for v in graph.input if v.name in self.floats]
        self.precisions = {name: [_SINGLE] for name in inputs}
        others = (t for t in graph.initializer if t.data_type != _SINGLE)
        self.nodes, self.constants = [], {t.name: t for t in others}

    def add(self, old):
        """A node, behind the casts that it needs."""
        import onnx

        node = onnx.NodeProto()
        node.CopyFrom(old)
        precision = self.precision(node)
        for i, tensor in enumerate(old.input):
            single = i in _FLOAT32_INPUTS.get(node.op_type, ())
            node.input[i] = self.name(tensor, _SINGLE if single else precision)
        if precision == _SHORT:
            _attributes_to_float16(node)
        for i, tensor in enumerate(old.output):
            if tensor in self.floats:
                self.precisions[tensor] = [precision]
                node.output[i] = _named(tensor, precision)
        self.nodes.append(node)

    def precision(self, node):
        """That in which a node computes."""
        if node.op_type in _MOVES and node.input[0] in self.precisions:
            return self.precisions[node.input[0]][0]
        exact = node.name in self.exact or node.op_type in _FLOAT32
        return _SINGLE if exact else _SHORT

    def name(self, tensor, precision):
        """That of a tensor in a precision, if it is of floats; it is there then."""
        name = _named(tensor, precision)
        if tensor in self.weights:
            if name not in self.constants:
                weight = self.weights[tensor]
                short = precision == _SHORT
                self.constants[name] = _to_float16(weight, name) if short else weight
            return name
        if tensor not in self.precisions:
            return tensor
        if precision not in self.precisions[tensor]:
            source = _named(tensor, self.precisions[tensor][0])
            self.precisions[tensor].append(precision)
            self.nodes.append(_cast(source, name, precision))
        return name


def _named(tensor, precision):
    return f"{tensor}.float16" if precision == _SHORT else tensor


def _cast(source, name, precision):
    from onnx import helper

    return helper.make_node("Cast", [source], [name], f"{name}.cast", to=precision)


def _exact(graph, layers):
    """Names of nodes inside `layers`, but for those of `(x - m) * a + b`."""
    sources, users = producers(graph), collections.defaultdict(list)
    calls = {node.name: call_of(node.name, layers) for node in graph.node}
    for node in graph.node:
        for tensor in node.input:
            users[tensor].append(calls[node.name])

    def source(tensor, kind):
        """The node that computes a tensor, perhaps in another layout."""
        node = sources.get(tensor)
        while node is not None and node.op_type in _MOVES:
            node = sources.get(node.input[0])
        return node if node is not None and kind in (None, node.op_type) else None

    exact = {name for name, call in calls.items() if call}
    for node in graph.node:
        call, output = calls[node.name], node.output[0]
        if not call or call in users[output]:
            continue
        total = source(output, "Add")
        product = total and source(total.input[0], "Mul")
        centred = product and source(product.input[0], None)
        if centred and calls[centred.name] == call:
            exact -= {total.name, product.name}
    return exact


def _check_flat(graph):
    import onnx

    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    for node in graph.node:
        if any(attribute.type in kinds for attribute in node.attribute):
            allowed = "False for a model with control flow"
            raise refused("fp16", allowed, f"{node.name} ({node.op_type})")


def _attributes_to_float16(node):
    for attribute in node.attribute:
        if attribute.t.data_type == _SINGLE:
            attribute.t.CopyFrom(_to_float16(attribute.t, attribute.t.name))
        if node.op_type == "Cast" and attribute.i == _SINGLE:
            attribute.i = _SHORT


def _to_float16(tensor, name):
    import onnx

    values = onnx.numpy_helper.to_array(tensor)
    limit = float(np.finfo("float16").max)
    return onnx.numpy_helper.from_array(
        np.clip(values, -limit, limit).astype("float16"), name
    )
