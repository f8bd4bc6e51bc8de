"""`keras-en export`: write a SavedModel or an ONNX file, proven equal to the model.

Exports the model of a .keras file in inference mode. What is written is run as its
servers do and compared with the model before it gets its name: if a gate fails nothing
is written, and the exit code is 1.

Examples:
  keras-en export model.keras --out served --report parity.md
  keras-en export model.keras --to onnx --out model.onnx --fp16
  keras-en export runs/photos/model.keras --out served --card hub --license mit
"""

import argparse
from collections.abc import Callable
from typing import Any

from keras_en.cli import options as shared
from keras_en.cli.choices import (
    DIMENSIONS,
    LAYOUTS,
    OPSETS,
    PIXELS,
    SIGNATURES,
    VERSION,
)


def _of_saved_model(option: Callable) -> None:
    text = "number of the version; default: one more than the last"
    option("--version", type=shared.integer(1, VERSION), metavar="N", help=text)
    text = "what a server is asked by; may be repeated; default: all that the model "
    text += "can have"
    chosen = dict(choices=SIGNATURES, action="append", help=text)
    option("--signature", dest="signatures", **chosen)
    text = "of serving_bytes: (pixels / 255 - mean) / std; "
    text += "--pixels 0-255: without / 255"
    shared.add_scaling(option, text)
    text = "of serving_bytes: what the model takes them as; default: auto"
    option("--pixels", choices=PIXELS, help=text)
    text = "write no warm-up requests"
    option("--no-warmup", dest="warmup_requests", action="store_false", help=text)


def _of_onnx(option: Callable) -> None:
    first, last = OPSETS[0], OPSETS[-1]
    text = f"version of the operators, {first} to {last}; default: 17"
    option("--opset", type=shared.integer(first, last), metavar="N", help=text)
    names = shared.listed(shared.one_of(DIMENSIONS), "names of batch, height, width")
    text = "sizes left open; default: batch"
    option("--dynamic", type=names, metavar="NAME[,NAME]", help=text)
    text = "where channels stand in images; default: nhwc"
    option("--layout", choices=LAYOUTS, help=text)
    text = "compute in float16, but for statistics"
    option("--fp16", action="store_true", help=text)
    text = "fewer nodes, by onnxslim"
    option("--simplify", action="store_true", help=text)


# The options that one writer has and the other has not.
OWN_OPTIONS = {"saved_model": _of_saved_model, "onnx": _of_onnx}


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    shared.add_model(command)
    option = command.add_argument
    text = "what to write; default: %(default)s"
    option("--to", choices=tuple(OWN_OPTIONS), default="saved_model", help=text)
    text = "folder of the versions of a SavedModel, or an .onnx file"
    option("--out", type=shared.new_path, required=True, metavar="PATH", help=text)
    text = "height and width, where the model leaves them open"
    option("--image-size", type=shared.size, metavar="HxW", help=text)
    option(
        "--metadata",
        type=shared.fact,
        action="append",
        metavar="KEY=VALUE",
        help="whatever the artefact shall say about itself; may be repeated",
    )
    text = "a text file, one name per line; default: those of the training beside MODEL"
    option("--class-names", type=shared.path, metavar="FILE", help=text)
    text = "a new folder for the Hugging Face Hub or Kaggle: the model and its card, "
    text += "README.md, with what a training beside MODEL has written down"
    option("--card", type=shared.folder, metavar="FOLDER", help=text)
    text = "licence of the weights, for --card, as the Hub names them: apache-2.0, mit"
    option("--license", default="unknown", metavar="NAME", help=text)
    shared.add_overwrite(command, "replace what is there")
    text = "do not compare it with the model"
    option("--no-verify", action="store_true", help=text)
    shared.add_gates(command)
    command.set_defaults(own={})
    for to, add_own in OWN_OPTIONS.items():
        add_own(_option_of(to, command))


def _option_of(to, command):
    """`add_argument` for an option of one writer, whose name `own` then has."""
    group = command.add_argument_group(f"for --to {to}")

    def option(flag, **settings):
        action = group.add_argument(flag, default=argparse.SUPPRESS, **settings)
        command.get_default("own")[action.dest] = to, flag

    return option
