"""`keras-en inspect`: what a SavedModel or an ONNX file says about itself.

Shows signatures, sizes, normalizations and what the export recorded.

Examples:
  keras-en inspect served/1
  keras-en inspect model.onnx --json
"""

from typing import Any

from keras_en.cli import options as shared


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    shared.add_artefact(command)
