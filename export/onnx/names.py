"""Names from the model in place of the converter's, which change with each export."""

import collections
import re

from keras_en.text import unique

from ..calls import numbered
from .graph import graphs_in, nodes, replace

# What the converter adds without a scope; it belongs to what it follows.
_ADDED = ("Reshape", "Shape", "Squeeze", "Transpose", "Unsqueeze")


def clean(proto, name, scopes, weights):
    """Renames what is in a graph, and drops what nothing in it uses.

    Nodes are called `layer/operation`, in the second call of a layer
    `layer_1/operation`, a tensor like the node it comes from; inputs and outputs keep
    their names.

    Args:
        proto: `onnx.ModelProto`, changed in place.
        name: Of the model.
        scopes: Names of the model and its layers.
        weights: Dictionary from the names of inputs that are weights to their own.

    Returns:
        Dictionary from the converter's scopes to those of the names.
    """
    proto.graph.name, proto.producer_name = name, "keras_en"
    proto.doc_string = proto.graph.doc_string = ""
    ports = {v.name for v in (*proto.graph.input, *proto.graph.output)}
    tensors = {"": "", **{port: port for port in ports}, **weights}
    used = set(tensors.values())
    renamed = _scopes([n.name for n in nodes(proto.graph)], name, scopes)
    _name_nodes(proto.graph, renamed, tensors, used)
    _name_constants(proto.graph, tensors, used)
    for graph in graphs_in(proto.graph):
        _rename_tensors(graph, tensors)
    _drop_unused_domains(proto)
    return renamed


def _name_nodes(graph, scopes, tensors, used):
    """Names nodes, and in `tensors` what they compute."""
    origins = {}
    for node in nodes(graph):
        scope, _, operation = _plain(node.name).rpartition("/")
        scope = scopes[scope]
        if not scope and node.op_type in _ADDED:
            scope = origins.get(node.input[0], "")
        origins.update(dict.fromkeys(node.output, scope))
        node.name = _free(f"{scope}/{operation}" if scope else operation, used)
        for i, tensor in enumerate(node.output):
            tensors.setdefault(tensor, f"{node.name}:{i}" if i else node.name)


def _name_constants(graph, tensors, used):
    """Names constants in the order of use: the converter's own has no meaning."""
    constants = {t.name for g in graphs_in(graph) for t in g.initializer}
    count = 0
    for inner in graphs_in(graph):
        for value in inner.input:
            tensors.setdefault(value.name, _free(value.name, used))
        for tensor in (t for node in inner.node for t in node.input):
            if tensor in constants and tensor not in tensors:
                count += 1
                tensors[tensor] = _free(f"constant_{count}", used)


def _rename_tensors(graph, tensors):
    del graph.value_info[:]
    order = {tensor: i for i, tensor in enumerate(tensors)}
    used = [t for t in graph.initializer if t.name in tensors]
    replace(graph.initializer, sorted(used, key=lambda t: order[t.name]))
    for part in (*graph.initializer, *graph.input, *graph.output):
        part.name = tensors[part.name]
    for node in graph.node:
        node.input[:] = [tensors[t] for t in node.input]
        node.output[:] = [tensors[t] for t in node.output]


def _drop_unused_domains(proto):
    used = {"", *(node.domain for node in nodes(proto.graph))}
    replace(proto.opset_import, [e for e in proto.opset_import if e.domain in used])


def _plain(name):
    """Without the converter's numbers."""
    return re.sub(r"__\d+", "", name.split(":")[0])


def _scopes(names, model, scopes):
    """For each scope of a node's name, and those around it, one without the number that
    TensorFlow adds where it was used before, in another call or in another graph: here
    the first call has none."""
    paths = {tuple(_plain(name).split("/")[:-1]) for name in names}
    paths |= {path[:i] for path in paths for i in range(len(path))}
    inner = [(len(path), *numbered(path[-1], scopes), path) for path in paths - {()}]
    renamed, calls = {(): ()}, collections.Counter()
    for _, stem, _, path in sorted(inner):
        outer = path[:-1]
        call = calls[outer, stem]
        calls[outer, stem] += 1
        renamed[path] = (*renamed[outer], f"{stem}_{call}" if call else stem)
    return {
        "/".join(path): "/".join(new[1:] if new[:1] == (model,) else new)
        for path, new in renamed.items()
    }


def _free(name, used):
    name = unique(name, used, ".")
    used.add(name)
    return name


def name_dimensions(proto, dimensions, flipped):
    """Names for unknown sizes: "batch", "height", "width", `output_dim1`, ...

    Args:
        proto: `onnx.ModelProto`, changed in place.
        dimensions: For each input a dictionary from axis to name.
        flipped: Whether rank-4 tensors have their last axis moved behind the batch.
    """
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, name in dimensions.get(value.name, {}).items():
            place = axis + 1 if flipped and len(dims) == 4 and axis else axis
            if not dims[place].dim_value:
                dims[place].dim_param = name
    for value in proto.graph.output:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_value:
                dim.dim_param = f"{value.name}_dim{axis}" if axis else "batch"
