"""What can be seen of an artefact without running it: gates 2, 3 and 6."""

import tempfile
from pathlib import Path

from .. import artefact as artefacts
from .. import serving
from ..calls import nodes_of_calls
from ..onnx import compact
from ..onnx import graph as onnx_graph
from ..onnx.convert import export_onnx
from ..saved_model import graph as graphs
from ..saved_model.write import export_saved_model
from . import runners
from .compare import Unequal

NODES = 70


def no_side_effects(artefact):
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


def nothing_random(artefact):
    """That an ONNX file draws no random numbers."""
    wrong = onnx_graph.unservable(artefact.proto)
    if wrong:
        raise Unequal("; ".join(wrong[:5]))
    count = len(artefact.proto.graph.node)
    return f"{count} nodes", {"nodes": count}


def well_formed(artefact, model):
    """The checker, shape inference, domains, names and open sizes of an ONNX file."""
    onnx_graph.check(artefact.path, artefact.proto)
    _, outputs = artefact.signatures["serving_default"]
    wanted = set(serving.interface(model).outputs)
    if set(outputs) != wanted:
        raise Unequal(f"outputs must be {sorted(wanted)}. Received: {sorted(outputs)}")
    opened = {
        size
        for tensors in artefact.signatures["serving_default"]
        for _, shape in tensors.values()
        for size in shape
        if not isinstance(size, int)
    }
    if None in opened:
        raise Unequal("an open size has no name")
    return f"open: {', '.join(sorted(opened)) or 'nothing'}", {}


def same_graph(artefact, model):
    """That it is what was exported, and is exported again."""
    options = artefact.record.get("options")
    if not options:
        raise runners.Unavailable("the artefact does not say how it was exported")
    if artefact.graph_hash != artefact.record["graph_hash"]:
        raise Unequal("the graph is not the one that was exported")
    with tempfile.TemporaryDirectory() as work:
        if artefact.kind == "ONNX":
            again = export_onnx(model, Path(work, "again.onnx"), **options)
        else:
            again = export_saved_model(model, work, warmup_requests=False, **options)
        if artefacts.read(again).graph_hash != artefact.graph_hash:
            raise Unequal("another export of the model has another graph")
    return artefact.graph_hash[:16], {}


def few_nodes(artefact):
    """That no compact form of an ONNX file has more than 70 nodes."""
    nodes = artefact.nodes_of_layers
    if not nodes:
        raise runners.Unavailable("no normalization has nodes of its own")
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
