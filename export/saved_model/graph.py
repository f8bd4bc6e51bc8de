"""TensorFlow graphs: what a signature reaches, and what identifies it."""

import hashlib
import operator

from keras_en.text import digest

# Names that differ between two exports of the same graph, and what debuggers read.
_IGNORED = {
    "_class",
    "_gradient_op_type",
    "_output_shapes",
    "config_proto",
    "container",
    "debug_name",
    "experimental_debug_info",
}
# The `FunctionDef` of a `GraphDef`.
_functions = operator.attrgetter("library.function")
_RANDOM = ("Random", "Multinomial", "StatefulUniform", "Rng", "Dropout")
_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def read(directory):
    """The `MetaGraphDef` of a SavedModel with the tag "serve".

    Args:
        directory: Path of one version, the folder that holds `saved_model.pb`.
    """
    from pathlib import Path

    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString(Path(directory, "saved_model.pb").read_bytes())
    for graph in proto.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise ValueError(f"{directory} holds no graph with the tag serve")


def node_name(tensor):
    """The node that an input of another names: `^node`, `node:0`, `node:output:0`."""
    return tensor.removeprefix("^").split(":")[0]


class Graph:
    """A `GraphDef` with its functions.

    Args:
        graph_def: `GraphDef`.
    """

    def __init__(self, graph_def):
        self.nodes = {node.name: node for node in graph_def.node}
        self.functions = {f.signature.name: f for f in _functions(graph_def)}
        self._hashes, self._entered = {}, set()

    def reached(self, outputs):
        """Every node that `outputs`, names of tensors, depend on, and every function
        that is called, which runs whole.

        Returns:
            List of `NodeDef`, those of the functions included; list of `FunctionDef`.
        """
        waiting, seen, nodes = [node_name(t) for t in outputs], set(), []
        while waiting:
            name = waiting.pop()
            if name not in seen and name in self.nodes:
                seen.add(name)
                nodes.append(self.nodes[name])
                waiting += [node_name(t) for t in self.nodes[name].input]
        functions = {}
        called = [name for node in nodes for name in _called(node)]
        while called:
            name = called.pop()
            if name not in functions and name in self.functions:
                functions[name] = self.functions[name]
                inner = self.functions[name].node_def
                nodes += inner
                called += [c for node in inner for c in _called(node)]
        return nodes, list(functions.values())

    def hash(self, outputs):
        """Identifies what `outputs` compute: operations, attributes, constants and the
        names of variables and placeholders; no name or order of a node, no number of
        a function.

        Args:
            outputs: Dictionary from name to name of a tensor.
        """
        hashes = self._hash_nodes(self.nodes, [*outputs.values()], {})
        return digest(*(f"{k}={hashes(outputs[k])}" for k in sorted(outputs)))

    def _hash_function(self, name):
        if name not in self._hashes:
            if name in self._entered:
                raise ValueError(f"The graph's function {name!r} calls itself")
            self._entered.add(name)
            function = self.functions[name]
            arguments = {
                arg.name: digest("argument", i)
                for i, arg in enumerate(function.signature.input_arg)
            }
            nodes = {node.name: node for node in function.node_def}
            returned = [function.ret[arg.name] for arg in function.signature.output_arg]
            hashes = self._hash_nodes(nodes, returned, arguments)
            self._hashes[name] = digest(*map(hashes, returned))
        return self._hashes[name]

    def _hash_nodes(self, nodes, outputs, hashes):
        """A function from a tensor to its hash, of `outputs` and what they need; a
        graph can be too deep for recursion.

        Args:
            nodes: Dictionary from name to `NodeDef`.
            outputs: Names of tensors.
            hashes: Dictionary with the hashes of arguments, to which all are added.
        """

        def hash_of(tensor):
            name, *rest = tensor.split(":")
            # `node` and `node:0` are the same tensor.
            return digest(hashes[name], "" if rest == ["0"] else ":".join(rest))

        waiting, entered = [node_name(t) for t in outputs], set()
        while waiting:
            name = waiting[-1]
            if name in hashes:
                waiting.pop()
                continue
            if name not in nodes:
                raise ValueError(f"The graph has no node {name!r}")
            node = nodes[name]
            tensors = [t for t in node.input if not t.startswith("^")]
            missing = [n for n in map(node_name, tensors) if n not in hashes]
            if not missing:
                place = name if node.op == "Placeholder" else ""
                inputs = map(hash_of, tensors)
                hashes[name] = digest(node.op, place, *self._attributes(node), *inputs)
            elif name in entered:
                raise ValueError(f"The graph has a loop, with the node {name!r}")
            entered.add(name)
            waiting += missing
        return hash_of

    def _attributes(self, node):
        for key in sorted(set(node.attr) - _IGNORED):
            names = list(_functions_in(node.attr[key]))
            if names:
                yield f"{key}={[self._hash_function(n) for n in names]}"
            else:
                data = node.attr[key].SerializeToString(deterministic=True)
                yield f"{key}={hashlib.sha256(data).hexdigest()}"


def hash_of_signatures(meta):
    """`Graph.hash` of all outputs of all signatures of a `MetaGraphDef`."""
    outputs = {
        f"{name}/{key}": tensor.name
        for name, signature in meta.signature_def.items()
        if not name.startswith("__")
        for key, tensor in signature.outputs.items()
    }
    return Graph(meta.graph_def).hash(outputs)


def _called(node):
    return [name for value in node.attr.values() for name in _functions_in(value)]


def _functions_in(value):
    """Names of the functions that an attribute holds."""
    if value.HasField("func"):
        yield value.func.name
    yield from (f.name for f in value.list.func)


def unservable(nodes, functions):
    """What must not be served, described, one string a node.

    Args:
        nodes, functions: As `Graph.reached` returns them.
    """
    wrong = []
    for node in nodes:
        if node.op.startswith(("Assign", "ResourceApply", "ResourceScatter")):
            wrong.append(f"{node.name} assigns ({node.op})")
        elif any(word in node.op for word in _RANDOM):
            wrong.append(f"{node.name} is random ({node.op})")
        elif node.op in _PYTHON:
            wrong.append(f"{node.name} runs Python ({node.op})")
    for part in (*nodes, *functions):
        if "_XlaMustCompile" in part.attr and part.attr["_XlaMustCompile"].b:
            name = part.name if hasattr(part, "op") else part.signature.name
            wrong.append(f"{name} must be compiled by XLA (_XlaMustCompile)")
    return wrong
