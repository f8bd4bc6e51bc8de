"""ONNX graphs in float16, with statistics in float32."""

import numpy as np

from ..calls import call_of

# What has inputs that are float32 in any precision, by their places.
_FLOAT32_INPUTS = {"Resize": (1, 2)}
# What has no float16 form, or whose inputs may exceed it.
_FLOAT32 = ("CumSum", "NonMaxSuppression", "Range", "RoiAlign")
# What moves numbers and computes none keeps the precision that it finds.
_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def in_float16(proto, layers):
    """The same graph in float16, with float32 inputs and outputs.

    Normalizations stay float32: of 112 x 112 float16 numbers neither sums nor squares
    are safe, nor is `x * a + b` where it cancels. Only `(x - m) * a + b` is float16, of
    what was subtracted in float32. Casts stand where one precision meets the other.
    (onnxruntime's own conversion casts what is left in float32 to float16 and back
    behind each node, and so rounds it.)

    Args:
        proto: `onnx.ModelProto`.
        layers: Names of the normalizations, in which nodes are called `layer/...`.

    Returns:
        `onnx.ModelProto`.

    Raises:
        ValueError: The graph has control flow.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(proto).graph
    _check_flat(graph)
    values = (*graph.input, *graph.output, *graph.value_info)
    floats = {
        v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    constants = {
        t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    }
    exact = _exact(proto.graph, layers)
    new = onnx.ModelProto()
    new.CopyFrom(proto)
    del new.graph.node[:], new.graph.initializer[:]
    # The name of each tensor in each precision, if it is there.
    names = {v.name: {"float": v.name} for v in graph.input if v.name in floats}

    def cast(tensor, precision):
        found = names[tensor]
        if precision not in found:
            found[precision] = f"{tensor}.{precision}"
            kind = "FLOAT16" if precision == "half" else "FLOAT"
            new.graph.node.append(
                onnx.helper.make_node(
                    "Cast",
                    [next(iter(found.values()))],
                    [found[precision]],
                    name=found[precision],
                    to=getattr(onnx.TensorProto, kind),
                )
            )
        return found[precision]

    halves, kept = {}, {t.name for t in graph.initializer} - set(constants)
    for old in proto.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(old)
        half = node.name not in exact and node.op_type not in _FLOAT32
        if node.op_type in _MOVES and node.input[0] in names:
            half = next(iter(names[node.input[0]])) == "half"
        for i, tensor in enumerate(node.input):
            wanted = half and i not in _FLOAT32_INPUTS.get(node.op_type, ())
            if tensor in constants:
                if wanted:
                    halves[tensor] = node.input[i] = f"{tensor}.half"
                else:
                    kept.add(tensor)
            elif tensor in names:
                node.input[i] = cast(tensor, "half" if wanted else "float")
        if half:
            _attributes_to_half(node)
        for i, tensor in enumerate(node.output):
            if tensor in floats:
                name = f"{tensor}.half" if half else tensor
                node.output[i] = name
                names[tensor] = {"half" if half else "float": name}
        new.graph.node.append(node)
    for value in new.graph.output:
        if value.name in names and "float" not in names[value.name]:
            names[value.name]["float"] = value.name
            new.graph.node.append(
                onnx.helper.make_node(
                    "Cast",
                    [names[value.name]["half"]],
                    [value.name],
                    name=value.name,
                    to=onnx.TensorProto.FLOAT,
                )
            )
    for tensor in proto.graph.initializer:
        if tensor.name in kept:
            new.graph.initializer.append(tensor)
        if tensor.name in halves:
            new.graph.initializer.append(_to_half(tensor, halves[tensor.name]))
    return new


def _exact(graph, layers):
    """Names of nodes inside `layers`, but for those of `(x - m) * a + b`."""
    made = {t: n for n in graph.node for t in n.output}
    users = {}
    for node in graph.node:
        for tensor in node.input:
            users.setdefault(tensor, []).append(node)

    def source(tensor):
        """The node that computes a tensor, perhaps in another layout."""
        node = made.get(tensor)
        while node is not None and node.op_type in _MOVES:
            node = made.get(node.input[0])
        return node

    exact = {n.name for n in graph.node if call_of(n.name, layers)}
    for node in graph.node:
        call = call_of(node.name, layers)
        following = users.get(node.output[0], [])
        if not call or any(call_of(n.name, layers) == call for n in following):
            continue
        total = source(node.output[0])
        if total is None or total.op_type != "Add":
            continue
        product = source(total.input[0])
        if product is None or product.op_type != "Mul":
            continue
        centered = source(product.input[0])
        if centered is not None and call_of(centered.name, layers) == call:
            exact -= {total.name, product.name}
    return exact


def _check_flat(graph):
    import onnx

    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    for node in graph.node:
        if any(attribute.type in kinds for attribute in node.attribute):
            raise ValueError(
                "Argument `fp16` must be False for a model with control flow. "
                f"Received: {node.name} ({node.op_type})"
            )


def _attributes_to_half(node):
    import onnx

    for attribute in node.attribute:
        if attribute.t.data_type == onnx.TensorProto.FLOAT:
            attribute.t.CopyFrom(_to_half(attribute.t, attribute.t.name))
        if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = onnx.TensorProto.FLOAT16


def _to_half(tensor, name):
    import onnx

    values = onnx.numpy_helper.to_array(tensor)
    limit = float(np.finfo("float16").max)
    return onnx.numpy_helper.from_array(
        np.clip(values, -limit, limit).astype("float16"), name
    )
