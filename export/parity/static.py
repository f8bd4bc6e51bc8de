"""What can be seen of an artefact without running it: gates 2, 3 and 6."""

import keras

from keras_en import files

from .. import artefact as artefacts
from .. import facts
from ..artefact import Artefact
from ..calls import nodes_of_calls
from ..onnx import compact
from ..onnx import graph as onnx_graph
from ..onnx.convert import build
from ..saved_model import graph as graphs
from ..saved_model.write import staged_saved_model
from ..serving import Prepared, interface
from .checks import Outcome, Unavailable, Unequal
from .runners import DEFAULT

NODES = 70


def no_side_effects(artefact: Artefact) -> Outcome:
    """That no signature of a SavedModel reaches what must not be served."""
    graph = graphs.Graph(artefact.proto.graph_def)
    tensors = [
        tensor.name
        for name in artefact.signatures
        for tensor in artefact.proto.signature_def[name].outputs.values()
    ]
    nodes, functions = graph.reached(tensors)
    wrong = graphs.unservable(nodes, functions)
    if wrong:
        raise Unequal("; ".join(wrong[:5]))
    return f"{len(nodes)} nodes, {len(functions)} functions", {"nodes": len(nodes)}


def nothing_random(artefact: Artefact) -> Outcome:
    """That an ONNX file draws no random numbers."""
    wrong = onnx_graph.unservable(artefact.proto)
    if wrong:
        raise Unequal("; ".join(wrong[:5]))
    count = len(artefact.proto.graph.node)
    return f"{count} nodes", {"nodes": count}


def well_formed(artefact: Artefact, model: keras.Model) -> Outcome:
    """The checker, shape inference, domains, names and open sizes of an ONNX file."""
    onnx_graph.check(artefact.path, artefact.proto)
    _, outputs = artefact.signatures[DEFAULT]
    wanted = set(interface(model).outputs)
    if set(outputs) != wanted:
        raise Unequal(f"outputs must be {sorted(wanted)}. Received: {sorted(outputs)}")
    opened = {
        size
        for tensors in artefact.signatures[DEFAULT]
        for _, shape in tensors.values()
        for size in shape
        if not isinstance(size, int)
    }
    if None in opened:
        raise Unequal("an open size has no name")
    return f"open: {', '.join(sorted(opened)) or 'nothing'}", {}


def same_graph(artefact: Artefact, model: keras.Model | Prepared) -> Outcome:
    """That it is what was exported, and is exported again."""
    options = facts.options_of(artefact.record, artefact.kind)
    if not options:
        raise Unavailable("the artefact does not say how it was exported")
    if artefact.graph_hash != artefact.record.get("graph_hash"):
        raise Unequal("the graph is not the one that was exported")
    if _hash_of_another(artefact.kind, model, options) != artefact.graph_hash:
        raise Unequal("another export of the model has another graph")
    return artefact.graph_hash[:16], {}


def _hash_of_another(kind, model, options):
    if kind == "ONNX":
        return onnx_graph.graph_hash(build(model, **options))
    with (
        files.temporary() as folder,
        staged_saved_model(model, folder, warmup_requests=False, **options) as staged,
    ):
        return artefacts.read(staged.path).graph_hash


def few_nodes(artefact: Artefact) -> Outcome:
    """That no compact form of an ONNX file has more than 70 nodes."""
    nodes = artefact.nodes_of_layers
    if not nodes:
        raise Unavailable("no normalization has nodes of its own")
    most = {kind: max(counts) for kind, counts in nodes.items()}
    compacted = compact.scopes(artefact.node_names)
    calls = nodes_of_calls(artefact.node_names, artefact.record["layers"])
    over = [
        f"{scope} {count}"
        for (_, scope), count in calls.items()
        if scope in compacted and count > NODES
    ]
    if over:
        raise Unequal(f"at most {NODES} are allowed: {', '.join(over)}")
    text = ", ".join(f"{kind} {count}" for kind, count in sorted(most.items()))
    return f"at most: {text}", most
