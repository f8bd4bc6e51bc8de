"""`keras-en verify`: compare a SavedModel or an ONNX file with its model.

Runs what was exported as its servers do, and compares it with the model. The exit code
is 1 if a gate fails.

Examples:
  keras-en verify model.keras served/1
  keras-en verify model.keras model.onnx --batches 1,8 --report parity.json
"""

from typing import Any

from keras_en.cli import options as shared


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    shared.add_model(command)
    shared.add_artefact(command)
    shared.add_overwrite(command, "replace the file of --report")
    shared.add_gates(command)
