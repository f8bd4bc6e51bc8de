"""ONNX graphs: names, dimensions, metadata, and what identifies them."""

import hashlib
import json
import re
from pathlib import Path

from keras_en.text import digest, unique

# What the converter adds without a scope; it belongs to what it follows.
_ADDED = ("Reshape", "Shape", "Squeeze", "Transpose", "Unsqueeze")
# Above this protobuf cannot hold the weights.
EXTERNAL = 2 * 1024**3 - 2**24
# And above this not one of them.
TENSOR = EXTERNAL


def graphs(graph):
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + [
                *attribute.graphs
            ]:
                yield from graphs(inner)


def clean(proto, name, scopes, weights):
    """Names from the model in place of the converter's, which change with each export.

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
    kept = {v.name for v in (*proto.graph.input, *proto.graph.output)} - set(weights)
    new = {"": "", **{n: n for n in kept}, **weights}
    taken, constants, made = set(new.values()), 0, {}
    names = [node.name for graph in graphs(proto.graph) for node in graph.node]
    renamed = _scopes(names, name, scopes)
    for graph in graphs(proto.graph):
        for node in graph.node:
            scope, slash, operation = _plain(node.name).rpartition("/")
            node.name = renamed[scope] + slash * bool(renamed[scope]) + operation
            if node.op_type in _ADDED and "/" not in node.name:
                scope = made.get(node.input[0], "").rpartition("/")[0]
                node.name = f"{scope}/{node.name}" if scope else node.name
            made.update(dict.fromkeys(node.output, node.name))
            node.name = _free(node.name, taken)
            for i, tensor in enumerate(node.output):
                new.setdefault(tensor, f"{node.name}:{i}" if i else node.name)
    # In the order of use: the converter's own order has no meaning.
    initializers = {t.name: t for g in graphs(proto.graph) for t in g.initializer}
    for graph in graphs(proto.graph):
        for value in graph.input:
            new.setdefault(value.name, _free(value.name, taken))
        for node in graph.node:
            for tensor in node.input:
                if tensor in initializers and tensor not in new:
                    constants += 1
                    new[tensor] = _free(f"constant_{constants}", taken)
    for graph in graphs(proto.graph):
        del graph.value_info[:]
        kept = [t for t in graph.initializer if t.name in new]
        kept.sort(key=lambda t: list(new).index(t.name))
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for part in (*graph.initializer, *graph.input, *graph.output):
            part.name = new[part.name]
        for node in graph.node:
            node.input[:] = [new[t] for t in node.input]
            node.output[:] = [new[t] for t in node.output]
    used = {node.domain for g in graphs(proto.graph) for node in g.node}
    imports = [e for e in proto.opset_import if e.domain in used or not e.domain]
    del proto.opset_import[:]
    proto.opset_import.extend(imports)
    return renamed


def _plain(name):
    """Without the converter's numbers."""
    return re.sub(r"__\d+", "", name.split(":")[0])


def _scopes(names, model, scopes):
    """For each scope of a node's name, and those around it, one without the number that
    TensorFlow adds where it was used before, in another call or in another graph: here
    the first call has none."""
    paths = {tuple(_plain(name).split("/")[:-1]) for name in names}
    paths |= {path[:i] for path in paths for i in range(len(path))}
    numbers = {}
    for path in paths - {()}:
        stem, number = _numbered(path[-1], scopes)
        numbers.setdefault((path[:-1], stem), []).append(number)
    found = {(): ()}
    for path in sorted(paths - {()}, key=len):
        stem, number = _numbered(path[-1], scopes)
        call = sorted(numbers[path[:-1], stem]).index(number)
        found[path] = (*found[path[:-1]], f"{stem}_{call}" if call else stem)
    return {
        "/".join(path): "/".join(new[1:] if new[:1] == (model,) else new)
        for path, new in found.items()
    }


def _numbered(part, scopes):
    """A scope, and the number that it has because it was used before."""
    stem, _, number = part.rpartition("_")
    if part not in scopes and stem in scopes and number.isdecimal():
        return stem, int(number)
    return part, 0


def _free(name, taken):
    name = unique(name, taken, ".")
    taken.add(name)
    return name


def name_dimensions(proto, dimensions, flipped):
    """Names for unknown sizes: "batch", "height", "width", `output_dim1`, ...

    Args:
        proto: `onnx.ModelProto`, changed in place.
        dimensions: For each input a dictionary from axis to name.
        flipped: Whether rank-4 tensors have their last axis moved behind the batch.
    """
    for value in proto.graph.input:
        if value.name in dimensions:
            names, dims = dimensions[value.name], value.type.tensor_type.shape.dim
            for axis, name in names.items():
                place = axis + 1 if flipped and len(dims) == 4 and axis else axis
                if not dims[place].dim_value:
                    dims[place].dim_param = name
    for value in proto.graph.output:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_value:
                dim.dim_param = f"{value.name}_dim{axis}" if axis else "batch"


def known(proto):
    """Operators that ONNX has, for those that the converter passed on.

    Raises:
        ValueError: There are others.
    """
    import onnx

    for graph in graphs(proto.graph):
        nodes = list(graph.node)
        del graph.node[:]
        for node in nodes:
            if node.op_type != "Erfc":
                graph.node.append(node)
                continue
            # GELU is made of it: 1 - erf(x).
            one, erf = f"{node.name}/one", f"{node.name}/erf"
            value = onnx.helper.make_tensor(one, onnx.TensorProto.FLOAT, [], [1.0])
            graph.node.extend(
                [
                    onnx.helper.make_node("Constant", [], [one], one, value=value),
                    onnx.helper.make_node("Erf", node.input, [erf], erf),
                    onnx.helper.make_node("Sub", [one, erf], node.output, node.name),
                ]
            )
        unknown = [n for n in graph.node if not onnx.defs.has(n.op_type, n.domain)]
        if unknown:
            raise ValueError(
                "Argument `model` must be made of operations that have an ONNX form. "
                f"Received: {unknown[0].name} ({unknown[0].op_type})"
            )


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
    found = {}
    for entry in proto.metadata_props:
        try:
            found[entry.key] = json.loads(entry.value)
        except json.JSONDecodeError:
            found[entry.key] = entry.value
    return found


def fill(proto, weights):
    """Inputs that are weights become constants, which `save` writes beside the file.

    Args:
        proto: `onnx.ModelProto`, changed in place.
        weights: Dictionary from name to NumPy array.
    """
    import onnx

    kept = [value for value in proto.graph.input if value.name not in weights]
    used = {value.name for value in proto.graph.input} & set(weights)
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for name in sorted(used):
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(weights[name], name)
        )


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
    """Raises an exception if a file is not well-formed: onnx's full check, strict shape
    inference, and no other domain than the standard one."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
        onnx.shape_inference.infer_shapes_path(
            str(path), "/dev/null", check_type=True, strict_mode=True, data_prop=True
        )
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise ValueError(f"The ONNX file is not well-formed: {error}") from error
    domains = {e.domain for e in proto.opset_import}
    domains |= {node.domain for g in graphs(proto.graph) for node in g.node}
    if domains - {"", "ai.onnx"} or proto.functions:
        raise ValueError(f"domains must be the standard one. Received: {domains}")


def unservable(proto):
    """Descriptions of nodes that draw random numbers."""
    random = ("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform")
    return [
        f"{node.name} is random ({node.op_type})"
        for graph in graphs(proto.graph)
        for node in graph.node
        if node.op_type.startswith(random)
    ]


def graph_hash(proto):
    """Identifies what a file computes: operations, attributes, constants, and the names
    of inputs and outputs; no other name, and no order of nodes."""
    found = {"": ""}
    for value in proto.graph.input:
        kind = value.type.SerializeToString(deterministic=True)
        found[value.name] = digest("input", value.name, kind)
    _hash_nodes(proto.graph, found)
    opsets = sorted(f"{e.domain}={e.version}" for e in proto.opset_import)
    outputs = sorted((v.name, found[v.name]) for v in proto.graph.output)
    return digest(*opsets, *outputs)


def _hash_nodes(graph, found):
    for tensor in graph.initializer:
        dims = list(tensor.dims)
        found[tensor.name] = digest(tensor.data_type, dims, _content(tensor))
    for node in graph.node:
        parts = []
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            inner = ([attribute.g] if attribute.HasField("g") else []) + [
                *attribute.graphs
            ]
            parts += [attribute.name, *(_hash_inner(g, found) for g in inner)]
            if not inner:
                parts.append(attribute.SerializeToString(deterministic=True))
        given = [found[tensor] for tensor in node.input]
        for i, tensor in enumerate(node.output):
            found[tensor] = digest(node.domain, node.op_type, i, *parts, *given)


def _hash_inner(graph, outer):
    found = dict(outer)
    for i, value in enumerate(graph.input):
        found[value.name] = digest("inner", i)
    _hash_nodes(graph, found)
    return digest(*(found[value.name] for value in graph.output))


def _content(tensor):
    import onnx

    return hashlib.sha256(onnx.numpy_helper.to_array(tensor).tobytes()).hexdigest()
