"""`keras-en export`: a SavedModel or an ONNX file, proven equal to the model."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import keras

from keras_en.cli import verify
from keras_en.cli.options import (
    NOTHING,
    NotEqual,
    add_command,
    add_gates,
    add_model,
    fact,
    integer,
    listed,
    number,
    one_of,
    size,
)
from keras_en.export.onnx.convert import DIMENSIONS, LAYOUTS, OPSETS, staged_onnx
from keras_en.export.saved_model.write import SIGNATURES, staged_saved_model
from keras_en.export.serving import prepare

WRITERS = {"saved_model": staged_saved_model, "onnx": staged_onnx}
# Arguments that one writer has and the other has not, and their options.
OPTIONS = {
    "saved_model": {
        "version": "--version",
        "signatures": "--signature",
        "mean": "--mean",
        "std": "--std",
        "warmup_requests": "--no-warmup",
    },
    "onnx": {
        "opset": "--opset",
        "dynamic": "--dynamic",
        "layout": "--layout",
        "fp16": "--fp16",
        "simplify": "--simplify",
    },
}
CONVERTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx"}


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = add_command(
        commands,
        "export",
        run,
        help="write a SavedModel or an ONNX file, proven equal to the model",
        description="Exports the model of a .keras file in inference mode. What is "
        "written is run as its servers do and compared with the model before it gets "
        "its name: if a gate fails nothing is written, and the exit code is 1.",
    )
    add_model(command)
    command.add_argument("--to", choices=tuple(WRITERS), default="saved_model")
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the versions of a SavedModel, or an .onnx file",
    )
    command.add_argument(
        "--image-size",
        type=size,
        metavar="HxW",
        help="height and width, where the model leaves them open",
    )
    command.add_argument(
        "--metadata",
        type=fact,
        action="append",
        metavar="KEY=VALUE",
        help="whatever the artefact shall say about itself; may be repeated",
    )
    command.add_argument(
        "--class-names", type=Path, metavar="FILE", help="a text file, a name a line"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace what is there"
    )
    command.add_argument(
        "--no-verify", action="store_true", help="do not compare it with the model"
    )
    add_gates(command)
    _add_saved_model(command.add_argument_group("for --to saved_model"))
    _add_onnx(command.add_argument_group("for --to onnx"))


def _add_saved_model(group):
    def add(option, **arguments):
        group.add_argument(option, default=argparse.SUPPRESS, **arguments)

    add("--version", type=integer(1), help="default: one more than the last")
    add(
        "--signature",
        choices=SIGNATURES,
        action="append",
        dest="signatures",
        help="may be repeated; default: all that the model can have",
    )
    for option in ("--mean", "--std"):
        add(
            option,
            type=_channels,
            metavar="X[,X,X]",
            help="of serving_bytes: (pixels / 255 - mean) / std",
        )
    add(
        "--no-warmup",
        action="store_false",
        dest="warmup_requests",
        help="write no warm-up requests",
    )


def _add_onnx(group):
    def add(option, **arguments):
        group.add_argument(option, default=argparse.SUPPRESS, **arguments)

    add(
        "--opset",
        type=integer(OPSETS[0], OPSETS[-1]),
        help=f"{OPSETS[0]} to {OPSETS[-1]}; default: 17",
    )
    add(
        "--dynamic",
        type=listed(one_of(DIMENSIONS), "names of batch, height, width"),
        metavar="NAME[,NAME]",
        help="sizes left open; default: batch",
    )
    add("--layout", choices=LAYOUTS, help="default: nhwc")
    add("--fp16", action="store_true", help="compute in float16, but for statistics")
    add("--simplify", action="store_true", help="by onnxslim")


def _channels(text):
    """A number, or one for each channel."""
    values = listed(number(), "numbers")(text)
    return values[0] if len(values) == 1 else values


def run(options: argparse.Namespace) -> None:
    arguments = _arguments(options)
    _check_installed(options.to)
    verify.check_report(options.report, options.overwrite)
    prepared, report = prepare(options.model), None
    write = WRITERS[options.to]
    with write(prepared, options.out, **arguments) as staged:
        if not options.no_verify:
            report = verify.verified(options, prepared, staged.path)
            report = report._replace(artefact=str(options.out))
        if report is None or report.passed:
            staged.publish()
    if report is not None:
        verify.show(report, options)
        if not report.passed:
            raise NotEqual(f"{len(report.failures)} checks failed; {NOTHING}")
    print(f"Written: {staged.target}")


def _arguments(options):
    """Those of the writer."""
    chosen = vars(options)
    (other,) = set(OPTIONS) - {options.to}
    for name, option in OPTIONS[other].items():
        if name in chosen:
            raise RuntimeError(
                f"{option} is for --to {other}. Received: --to {options.to}"
            )
    return {
        "image_size": options.image_size,
        "overwrite": options.overwrite,
        "metadata": _metadata(options),
        **{name: chosen[name] for name in OPTIONS[options.to] if name in chosen},
    }


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


def _check_installed(to):
    packages = ()
    if to == "onnx":
        converter = CONVERTERS.get(keras.backend.backend(), "tf2onnx")
        packages = ("onnx", "onnxruntime", converter)
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"--to {to} needs {', '.join(missing)}: pip install 'keras-en[export]'"
        )
