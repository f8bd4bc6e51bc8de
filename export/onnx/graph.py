"""ONNX graphs: their parts, files, metadata, and what identifies them."""

import hashlib
import json
from pathlib import Path

from keras_en.arguments import refused
from keras_en.text import digest

# Above this protobuf cannot hold the weights,
EXTERNAL = 2 * 1024**3 - 2**24
# and above this not one of them.
TENSOR = EXTERNAL
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform")


def graphs_in(graph):
    """A graph and those inside its nodes."""
    yield graph
    for attribute in (a for node in graph.node for a in node.attribute):
        for body in _bodies(attribute):
            yield from graphs_in(body)


def _bodies(attribute):
    """The graphs that a node of control flow runs."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def nodes(graph):
    """The nodes of a graph and of those inside."""
    for inner in graphs_in(graph):
        yield from inner.node


def producers(graph):
    """The node that computes a tensor, by the tensor's name."""
    return {tensor: node for node in graph.node for tensor in node.output}


def read_tensors(graph, without=frozenset()):
    """Names of tensors that are read in a graph or in those inside, or are returned,
    but by nodes whose names are in `without`."""
    read = {value.name for inner in graphs_in(graph) for value in inner.output}
    for node in nodes(graph):
        if node.name not in without:
            read.update(node.input)
    return read


def replace(field, values):
    """Puts `values` in place of what a repeated field of a proto holds."""
    values = list(values)
    del field[:]
    field.extend(values)


def drop_unread(graph):
    """Removes the nodes and constants of a graph that nothing reads."""
    while True:
        read = read_tensors(graph)
        remaining = [node for node in graph.node if read.intersection(node.output)]
        if len(remaining) == len(graph.node):
            break
        replace(graph.node, remaining)
    replace(graph.initializer, [t for t in graph.initializer if t.name in read])


def fill(proto, weights):
    """Inputs that are weights become constants, which `save` writes beside the file.

    Args:
        proto: `onnx.ModelProto`, changed in place.
        weights: Dictionary from name to NumPy array.
    """
    import onnx

    inputs = list(proto.graph.input)
    replace(proto.graph.input, [v for v in inputs if v.name not in weights])
    for name in sorted({value.name for value in inputs} & set(weights)):
        tensor = onnx.numpy_helper.from_array(weights[name], name)
        proto.graph.initializer.append(tensor)


def in_standard_operators(proto):
    """Puts operators that ONNX has in place of those that the converter passed on.

    Raises:
        ValueError: There are others.
    """
    import onnx

    for graph in graphs_in(proto.graph):
        replace(graph.node, [n for old in graph.node for n in _without_erfc(old)])
    for node in nodes(proto.graph):
        if not onnx.defs.has(node.op_type, node.domain):
            allowed = "made of operations that have an ONNX form"
            raise refused("model", allowed, f"{node.name} ({node.op_type})")


def set_groups(proto):
    """Gives convolutions of volumes their groups, for which the converter writes 1.

    Args:
        proto: `onnx.ModelProto`, changed in place.
    """
    from onnx import shape_inference

    volumes = [node for node in proto.graph.node if _is_of_volumes(node)]
    if not volumes:
        return
    graph = shape_inference.infer_shapes(proto).graph
    channels = {
        tensor.name: tensor.dims[1] for tensor in graph.initializer if tensor.dims[1:]
    }
    for value in (*graph.input, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if dims[1:]:
            channels[value.name] = dims[1].dim_value
    for node in volumes:
        (group,) = (a for a in node.attribute if a.name == "group")
        group.i = channels[node.input[0]] // channels[node.input[1]]


def _is_of_volumes(node):
    sizes = [a.ints for a in node.attribute if a.name == "kernel_shape"]
    return node.op_type == "Conv" and len(sizes[0]) == 3


def _without_erfc(node):
    """A node, or three in place of an Erfc, which GELU is made of: 1 - erf(x)."""
    from onnx import TensorProto, helper

    if node.op_type != "Erfc":
        return [node]
    one, erf = f"{node.name}/one", f"{node.name}/erf"
    value = helper.make_tensor(one, TensorProto.FLOAT, [], [1.0])
    return [
        helper.make_node("Constant", [], [one], one, value=value),
        helper.make_node("Erf", node.input, [erf], erf),
        helper.make_node("Sub", [one, erf], node.output, node.name),
    ]


def later(proto, opset):
    """The same in a later opset than the converter writes."""
    import onnx

    new = onnx.version_converter.convert_version(proto, opset)
    new.ir_version = onnx.helper.find_min_ir_version_for(new.opset_import)
    return new


def simplified(proto):
    """The same with fewer nodes, by onnxslim."""
    try:
        import onnxslim
    except ImportError:
        raise RuntimeError(
            "simplify=True (--simplify) needs onnxslim: pip install onnxslim"
        ) from None
    return onnxslim.slim(proto)


def set_metadata(proto, facts):
    """Writes `facts` into the metadata of a file; what is no string as JSON."""
    import onnx

    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in facts.items()
    }
    onnx.helper.set_model_props(proto, texts)


def get_metadata(proto):
    """The facts that `set_metadata` wrote."""
    facts = {}
    for entry in proto.metadata_props:
        try:
            facts[entry.key] = json.loads(entry.value)
        except (ValueError, RecursionError):  # Too long a number, too deep a list.
            facts[entry.key] = entry.value
    return facts


def save(proto, path):
    """Writes a file, with the weights in `<path>.data` where it would exceed 2 GB."""
    import onnx

    size = sum(len(t.raw_data) for t in proto.graph.initializer)
    onnx.save_model(
        proto,
        str(path),
        save_as_external_data=size > EXTERNAL,
        location=f"{Path(path).name}.data",
    )


def check(path, proto):
    """Raises `ValueError` if a file is not well-formed: onnx's full check, strict shape
    inference, and no other domain than the standard one."""
    from onnx import checker, shape_inference

    try:
        checker.check_model(str(path), full_check=True)
        shape_inference.infer_shapes_path(
            str(path), "/dev/null", check_type=True, strict_mode=True, data_prop=True
        )
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise ValueError(f"The ONNX file is not well-formed: {error}") from error
    domains = {entry.domain for entry in proto.opset_import}
    domains.update(node.domain for node in nodes(proto.graph))
    if domains - {"", "ai.onnx"} or proto.functions:
        raise ValueError(f"domains must be the standard one. Received: {domains}")


def unservable(proto):
    """Descriptions of nodes that draw random numbers."""
    return [
        f"{node.name} is random ({node.op_type})"
        for node in nodes(proto.graph)
        if node.op_type.startswith(_RANDOM)
    ]


def graph_hash(proto):
    """Identifies what a file computes: operations, attributes, constants, and the names
    of inputs and outputs; no other name, no order of nodes, and no Identity, of which
    the converter puts one before this or that output of a loop."""
    hashes = {"": ""}
    for value in proto.graph.input:
        kind = value.type.SerializeToString(deterministic=True)
        hashes[value.name] = digest("input", value.name, kind)
    _hash_graph(proto.graph, hashes)
    opsets = sorted(f"{e.domain}={e.version}" for e in proto.opset_import)
    outputs = sorted((v.name, hashes[v.name]) for v in proto.graph.output)
    return digest(*opsets, *outputs)


def _hash_graph(graph, hashes):
    """Adds the hash of every tensor that a graph computes to those it reads."""
    for tensor in graph.initializer:
        hashes[tensor.name] = digest(*_constant(tensor))
    for node in graph.node:
        if node.op_type == "Identity":
            hashes[node.output[0]] = hashes[node.input[0]]
            continue
        attributes = sorted(node.attribute, key=lambda a: a.name)
        parts = [part for a in attributes for part in _hash_attribute(a, hashes)]
        inputs = [hashes[tensor] for tensor in node.input]
        for i, tensor in enumerate(node.output):
            hashes[tensor] = digest(node.domain, node.op_type, i, *parts, *inputs)


def _hash_attribute(attribute, outer):
    bodies = list(_bodies(attribute))
    if attribute.HasField("t"):  # Its name says nothing.
        return attribute.name, *_constant(attribute.t)
    if not bodies:
        return attribute.name, attribute.SerializeToString(deterministic=True)
    return attribute.name, *(_hash_body(body, outer) for body in bodies)


def _hash_body(graph, outer):
    hashes = dict(outer)
    for i, value in enumerate(graph.input):
        hashes[value.name] = digest("inner", i)
    _hash_graph(graph, hashes)
    return digest(*(hashes[value.name] for value in graph.output))


def _constant(tensor):
    import onnx

    content = onnx.numpy_helper.to_array(tensor).tobytes()
    return tensor.data_type, list(tensor.dims), hashlib.sha256(content).hexdigest()
