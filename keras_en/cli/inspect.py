"""Runs `keras-en inspect`."""

import argparse

from keras_en import export
from keras_en.cli.terminal import say, say_json
from keras_en.text import one_line, table


def run(options: argparse.Namespace) -> None:
    artefact = export.inspect(options.artefact)
    facts = _facts(artefact)
    if options.json:
        say_json(facts)
        return
    for name, value in facts.items():
        if name == "signatures":
            _print_signatures(value)
        elif name not in ("layers", "nodes_of_layers"):
            say(one_line(f"{name}: {value}", limit=None))
    if artefact.record.get("layers"):
        say()
        say(_layers(artefact))


def _facts(artefact):
    return {
        **{k: v for k, v in artefact.record.items() if k != "graph_hash"},
        "kind": artefact.kind,
        "path": str(artefact.path),
        "signatures": {
            name: {"inputs": inputs, "outputs": outputs}
            for name, (inputs, outputs) in artefact.signatures.items()
        },
        "nodes": len(artefact.node_names),
        "nodes_of_layers": {
            kind: [min(counts), max(counts)]
            for kind, counts in artefact.nodes_of_layers.items()
        },
        "graph_hash": artefact.graph_hash,
    }


def _print_signatures(signatures):
    for name, tensors in signatures.items():
        say(one_line(f"{name}:", limit=None))
        for side, sign in (("inputs", "<-"), ("outputs", "->")):
            for tensor, (dtype, shape) in tensors[side].items():
                sizes = ["?" if n is None else str(n) for n in shape or ()]
                sizes = "of any rank" if shape is None else f"({', '.join(sizes)})"
                say("  " + one_line(f"{sign} {tensor}: {dtype} {sizes}", limit=None))


def _layers(artefact):
    """Normalizations in the order of the network, and the nodes of their calls."""
    rows = [
        (
            one_line(layer, limit=None),
            one_line(kind, limit=None),
            ", ".join(map(str, artefact.nodes_of_calls.get(layer, ()))),
        )
        for layer, kind in artefact.record["layers"].items()
    ]
    return table(("normalization", "class", "nodes"), rows)
