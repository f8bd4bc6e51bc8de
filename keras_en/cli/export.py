"""`keras-en export`: write a SavedModel or an ONNX file, proven equal to the model.

Exports the model of a .keras file in inference mode. What is written is run as its
servers do and compared with the model before it gets its name: if a gate fails nothing
is written, and the exit code is 1.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_en.arguments import check_installed
from keras_en.cli import options as shared
from keras_en.cli import verify
from keras_en.export.onnx.convert import LAYOUTS, OPSETS, staged_onnx
from keras_en.export.onnx.source import DIMENSIONS
from keras_en.export.pixels import PIXELS
from keras_en.export.saved_model.write import SIGNATURES, staged_saved_model
from keras_en.export.serving import prepare

WRITERS: dict[str, Any] = {"saved_model": staged_saved_model, "onnx": staged_onnx}
CONVERTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx"}


def _channels(text):
    """A number, or one for each channel."""
    values = shared.listed(shared.number(), "numbers")(text)
    return values[0] if len(values) == 1 else values


def _of_saved_model(option: Callable) -> None:
    text = "default: one more than the last"
    option("--version", type=shared.integer(1), help=text)
    text = "may be repeated; default: all that the model can have"
    chosen = dict(choices=SIGNATURES, action="append", help=text)
    option("--signature", dest="signatures", **chosen)
    text = "of serving_bytes: (pixels / 255 - mean) / std; "
    text += "--pixels 0-255: without / 255"
    for flag in ("--mean", "--std"):
        option(flag, type=_channels, metavar="X[,X,X]", help=text)
    text = "of serving_bytes: what the model takes them as; default: auto"
    option("--pixels", choices=PIXELS, help=text)
    text = "write no warm-up requests"
    option("--no-warmup", dest="warmup_requests", action="store_false", help=text)


def _of_onnx(option: Callable) -> None:
    first, last = OPSETS[0], OPSETS[-1]
    text = f"{first} to {last}; default: 17"
    option("--opset", type=shared.integer(first, last), help=text)
    names = shared.listed(shared.one_of(DIMENSIONS), "names of batch, height, width")
    text = "sizes left open; default: batch"
    option("--dynamic", type=names, metavar="NAME[,NAME]", help=text)
    option("--layout", choices=LAYOUTS, help="default: nhwc")
    text = "compute in float16, but for statistics"
    option("--fp16", action="store_true", help=text)
    option("--simplify", action="store_true", help="by onnxslim")


# The options that one writer has and the other has not.
OWN_OPTIONS = {"saved_model": _of_saved_model, "onnx": _of_onnx}


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, "export", __doc__, run)
    shared.add_model(command)
    option = command.add_argument
    option("--to", choices=tuple(WRITERS), default="saved_model")
    text = "folder of the versions of a SavedModel, or an .onnx file"
    option("--out", type=Path, required=True, help=text)
    text = "height and width, where the model leaves them open"
    option("--image-size", type=shared.size, metavar="HxW", help=text)
    option(
        "--metadata",
        type=shared.fact,
        action="append",
        metavar="KEY=VALUE",
        help="whatever the artefact shall say about itself; may be repeated",
    )
    text = "a text file, a name a line"
    option("--class-names", type=Path, metavar="FILE", help=text)
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


def run(options: argparse.Namespace) -> None:
    arguments = _arguments(options)
    if options.to == "onnx":
        converter = CONVERTERS.get(keras.backend.backend(), "tf2onnx")
        packages = ("onnx", "onnxruntime", converter)
        check_installed("--to onnx", packages, "export")
    verify.check_report(options.report, options.overwrite)
    prepared = prepare(options.model)
    _check_class_names(arguments["metadata"].get("class_names"), prepared.model)
    with WRITERS[options.to](prepared, options.out, **arguments) as staged:
        if not options.no_verify:
            report = verify.verified(options, prepared, staged.path)
            report = report._replace(artefact=str(options.out))
            # First: where there is no room for the report, nothing is written.
            verify.conclude(report, options, f"; {shared.NOTHING}")
        staged.publish()
    shared.say(f"Written: {staged.target}")


def _arguments(options):
    """Those of the writer."""
    arguments = {
        "image_size": options.image_size,
        "overwrite": options.overwrite,
        "metadata": _metadata(options),
    }
    for name, (to, flag) in options.own.items():
        if name in options:
            if to != options.to:
                wanted = f"{flag} is for --to {to}"
                raise RuntimeError(f"{wanted}. Received: --to {options.to}")
            arguments[name] = getattr(options, name)
    return arguments


def _check_class_names(names, model):
    """Raises `RuntimeError` unless some output has a number for each."""
    sizes = [output.shape[-1] for output in model.outputs]
    if names is not None and None not in sizes and len(names) not in sizes:
        wanted = " or ".join(str(size) for size in dict.fromkeys(sizes))
        raise RuntimeError(
            f"--class-names must hold a name for each output, {wanted}. "
            f"Received: {len(names)} names"
        )


def _metadata(options):
    metadata, path = dict(options.metadata or ()), options.class_names
    if path is None:
        return metadata
    if not path.is_file():
        raise RuntimeError(f"--class-names must be a file. Received: {path}")
    try:
        metadata["class_names"] = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise RuntimeError(
            f"--class-names must be a text file. Received: {path}"
        ) from None
    return metadata
