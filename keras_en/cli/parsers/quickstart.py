"""`keras-en quickstart`: train a small network on handwritten digits, explain and
export it.

Trains a residual network on scikit-learn's handwritten digits (no download), evaluates
it, shows in a page which normalization it chose, and exports it.

Examples:
  keras-en quickstart
  keras-en quickstart --norm bn --output runs/bn
"""

from pathlib import Path
from typing import Any

from keras_en.cli import options as shared


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__)
    option = command.add_argument
    output, epochs = Path("runs/quickstart"), shared.integer(1)
    text = "folder of the run; default: %(default)s"
    option("--output", type=shared.folder, default=output, metavar="FOLDER", help=text)
    shared.add_seed(option, "of weights, order and split")
    text = "training epochs; default: %(default)s"
    option("--epochs", type=epochs, default=shared.EPOCHS, metavar="N", help=text)
    shared.add_norm(option, default="en")
    shared.add_overwrite(command, "replace the run in --output")
