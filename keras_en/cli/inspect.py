"""`keras-en inspect`: what a SavedModel or an ONNX file says about itself.

Shows signatures, sizes, normalizations and what the export recorded.
"""

import argparse
import json
from typing import Any

from keras_en import export
from keras_en.cli.options import add_artefact, add_command, say
from keras_en.text import one_line


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = add_command(commands, "inspect", __doc__, run)
    add_artefact(command)
    command.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> None:
    facts = _facts(export.inspect(options.artefact))
    if options.json:
        say(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        if name == "signatures":
            _print_signatures(value)
        elif name != "layers":
            say(one_line(f"{name}: {value}", limit=None))


def _facts(artefact):
    return {
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
        **{k: v for k, v in artefact.record.items() if k != "graph_hash"},
    }


def _print_signatures(signatures):
    for name, tensors in signatures.items():
        say(one_line(f"{name}:", limit=None))
        for side, sign in (("inputs", "<-"), ("outputs", "->")):
            for tensor, (dtype, shape) in tensors[side].items():
                sizes = ["?" if n is None else str(n) for n in shape or ()]
                sizes = "of any rank" if shape is None else f"({', '.join(sizes)})"
                say("  " + one_line(f"{sign} {tensor}: {dtype} {sizes}", limit=None))
