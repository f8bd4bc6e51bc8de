"""What the options of several commands have in common: types, whose errors say what is
allowed, and groups."""

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_en.arguments import check_backend
from keras_en.export.parity.verify import BATCHES
from keras_en.models import norms
from keras_en.text import one_line, printable
from keras_en.training.data.sources import FORMS

Parser = argparse.ArgumentParser
NOTHING = "nothing was written"
# Of the recipe digits.
EPOCHS = 30


class NotEqual(Exception):
    """An artefact is not equal to its model."""


def add_command(
    commands: Any,
    name: str,
    text: str | None,
    run: Callable,
    interrupted: str = NOTHING,
) -> Parser:
    """The parser of a command.

    Args:
        commands: Subparsers of `keras-en`.
        name: Of the command.
        text: Docstring of its module: the title "`keras-en NAME`: help." and, behind
            an empty line, what `--help` says.
        run: Function of the options.
        interrupted: What is said after Ctrl-C.
    """
    title, _, description = (text or "").partition("\n\n")
    _, _, summary = " ".join(title.split()).removesuffix(".").partition(": ")
    command = commands.add_parser(name, help=summary, description=description)
    command.set_defaults(run=run, interrupted=interrupted)
    return command


def check_tensorflow(subject: str) -> None:
    """Raises `RuntimeError`, about `subject`, on another backend."""
    check_backend(f"{subject} needs the TensorFlow backend")


def add_model(command: Parser) -> None:
    text = "a .keras file"
    command.add_argument("model", type=Path, metavar="MODEL", help=text)
    add_import(command)


def add_import(command: Parser) -> None:
    command.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="module that registers layers of one's own, imported before the file is "
        "read; may be repeated",
    )


def import_modules(names: list[str]) -> None:
    """Imports what the layers of a file need, from the working folder, too."""
    # A console script does not look there, as `python -m` does.
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # Its code may raise whatever it likes.
            raise RuntimeError(
                f"--import must be a module that can be imported. Received: {name} "
                f"({type(error).__name__}: {one_line(error)})"
            ) from error


def add_artefact(command: Parser) -> None:
    text = "DIRECTORY/VERSION, or .onnx"
    command.add_argument("artefact", type=Path, metavar="ARTEFACT", help=text)


def add_overwrite(command: Parser, text: str) -> None:
    command.add_argument("--overwrite", action="store_true", help=text)


def add_digits(command: Parser, output: str) -> None:
    """Options of what trains on digits; `output` is the default folder."""
    command.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    option, folder = command.add_argument, Path(output)
    option("--output", type=Path, default=folder, help="folder of the run")
    option("--seed", type=integer(0, 2**32 - 1), default=0, help="random seed")
    option("--epochs", type=integer(1), default=EPOCHS, help="training epochs")
    text = "normalization of the network"
    option("--norm", choices=norms.NAMES, default="en", help=text)


def add_data(option: Callable) -> None:
    """Which images, by the `add_argument` of a parser or a group."""
    option("--data", metavar="SOURCE", help=FORMS)
    text = "labels in the place of the training labels"
    option("--labels", metavar="npz:PATH:KEY", help=text)
    text = "images of a (global) batch"
    option("--batch-size", type=integer(1), metavar="N", help=text)
    text = "of tensorflow-datasets, or of the paths of a list"
    option("--data-dir", metavar="FOLDER", help=text)
    option("--skip-broken", action="store_true", help="leave out broken images")


def overrides(options: argparse.Namespace, keys: dict[str, str]) -> list[str]:
    """Changes of a recipe, by options that were given: `keys` has the key of each."""
    # JSON is YAML that holds any text.
    return [
        f"{key}={json.dumps(value)}"
        for option, key in keys.items()
        if (value := getattr(options, option)) is not None
    ]


def add_gates(command: Parser) -> None:
    """Options of the comparison of an artefact with its model."""
    option = command.add_argument_group("comparison").add_argument
    option(
        "--batches",
        type=listed(integer(1), "positive integers"),
        default=list(BATCHES),
        metavar="N[,N]",
        help=f"batch sizes; default: {','.join(map(str, BATCHES))}",
    )
    option(
        "--sizes",
        type=listed(size, "HEIGHTxWIDTH"),
        metavar="HxW[,HxW]",
        help="where they are open; default: 64x64,96x80",
    )
    option("--atol", type=number(0), help="default: 1e-5, for float16 1e-2")
    option("--rtol", type=number(0), help="default: 1e-4")
    option("--seed", type=integer(0, 2**32 - 1), default=0)
    option("--report", type=Path, metavar="FILE", help="a .json or .md file to write")


def say(text: object = "", file: Any = None) -> None:
    """Prints a text: names in it may come from files of others, and control no
    terminal."""
    print(printable(str(text)), file=file)


def integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """An integer between two others."""
    allowed = f"an integer of at least {minimum}"
    if maximum is not None:
        allowed += f" and at most {maximum}"

    def parse(text):
        number = int(text) if text.isdecimal() else minimum - 1
        if number < minimum or (maximum is not None and number > maximum):
            raise _wrong(allowed, text)
        return number

    return parse


def number(minimum: float = -math.inf) -> Callable[[str], float]:
    """A finite number, not below another."""

    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value < math.inf:
            kind = "a number" if minimum == -math.inf else f"a number from {minimum:g}"
            raise _wrong(kind, text)
        return value

    return parse


def one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    """A name among others."""

    def parse(text):
        if text not in names:
            raise _wrong(f"one of {names}", text)
        return text

    return parse


def listed(parse: Callable[[str], Any], what: str) -> Callable[[str], list]:
    """Values between commas."""

    def parse_all(text):
        try:
            return [parse(part) for part in text.split(",")]
        except argparse.ArgumentTypeError:
            raise _wrong(f"{what} between commas", text) from None

    return parse_all


def size(text: str) -> tuple[int, int]:
    """Height and width: 224x224, or 224 for both."""
    parts = text.split("x")
    if not 1 <= len(parts) <= 2 or not all(p.isdecimal() and int(p) for p in parts):
        raise _wrong("HEIGHTxWIDTH, such as 224x224", text)
    return int(parts[0]), int(parts[-1])


def share(text: str) -> tuple[str, float]:
    """A normalizer and its ratio."""
    name, _, ratio = text.partition("=")
    try:
        return name, float(ratio)
    except ValueError:
        raise _wrong("NAME=SHARE, such as batch=0.9", text) from None


def fact(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a value that is JSON is taken as such."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise _wrong("KEY=VALUE, such as licence=MIT", text)
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _wrong(allowed, text):
    return argparse.ArgumentTypeError(f"must be {allowed}. Received: {text}")
