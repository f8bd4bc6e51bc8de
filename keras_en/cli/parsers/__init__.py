"""What each command is called with: its help and its options. Nothing here imports
Keras; `keras_en.cli.NAME` runs what `keras_en.cli.parsers.NAME` has read."""

from keras_en.cli.options import Parser
from keras_en.cli.parsers import (
    convert,
    evaluate,
    export,
    inspect,
    models,
    predict,
    quickstart,
    ratios,
    recipes,
    reproduce,
    train,
    verify,
)
from keras_en.version import __version__

COMMANDS = (
    *(quickstart, recipes, train, evaluate, predict, reproduce, ratios),
    *(convert, export, verify, inspect, models),
)
START = f"""Exemplar Normalization for Keras 3, keras-en {__version__}

To begin with: train on handwritten digits, look at what was chosen, export
  keras-en quickstart

Images of your own, one folder per class
  keras-en train --data folder:photos --output runs/photos
  keras-en predict runs/photos/model.keras photo.jpg
  keras-en ratios runs/photos --out report

A network that you have
  keras-en convert model.keras --to en --out en.keras
  keras-en export en.keras --to onnx --out en.onnx

The tables of the paper
  keras-en recipes
  keras-en reproduce table5 --dry-run

All commands: keras-en --help. Options and examples: keras-en COMMAND --help"""


def parser() -> Parser:
    """The parser of `keras-en`; without a command its `command` is `None`."""
    result = Parser(
        prog="keras-en",
        description="Exemplar Normalization for Keras 3.",
        epilog="Options and examples of a command: keras-en COMMAND --help",
    )
    version = f"%(prog)s {__version__}"
    text = "print the version and exit"
    result.add_argument("--version", action="version", version=version, help=text)
    commands = result.add_subparsers(metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add(commands)
    return result
