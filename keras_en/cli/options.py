"""What the options of several commands have in common: types, whose errors say what is
allowed, and groups."""

import argparse
import importlib
import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from keras_en.cli.choices import (
    BATCHES,
    FORMS,
    LARGEST,
    LARGEST_SIDE,
    LAST_SEED,
    NORMS,
    is_source,
)
from keras_en.text import one_line

NOTHING = "nothing was written"
# Of the recipe digits.
EPOCHS = 30
_SIZE = f"HEIGHTxWIDTH, such as 224x224, of at most {LARGEST_SIDE} each"


class Parser(argparse.ArgumentParser):
    """Whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)} ({self.prog} --help)\n")


class NotEqual(Exception):
    """An artefact is not equal to its model."""


def add_command(
    commands: Any,
    text: str | None,
    interrupted: str = NOTHING,
    prints_json: bool = False,
) -> Parser:
    """The parser of a command.

    Args:
        commands: Subparsers of `keras-en`.
        text: Docstring of its module: the title "`keras-en NAME`: help.", what `--help`
            says, and behind "Examples:" lines of examples.
        interrupted: What is said after Ctrl-C.
        prints_json: Whether it has `--json`.
    """
    about, _, examples = (text or "").partition("\n\nExamples:\n")
    title, _, description = about.partition("\n\n")
    name, _, summary = " ".join(title.split()).removesuffix(".").partition(": ")
    command = commands.add_parser(
        name.strip("`").removeprefix("keras-en "),
        help=summary,
        description=textwrap.fill(" ".join(description.split()), 78),
        epilog=f"examples:\n{examples.rstrip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(interrupted=interrupted, json=False)
    group = command.add_argument_group("what is printed")
    if prints_json:
        group.add_argument("--json", action="store_true", help="the result as JSON")
    group.add_argument("--quiet", action="store_true", help="results and errors only")
    text = "the notes of TensorFlow, too"
    group.add_argument("--verbose", action="store_true", help=text)
    return command


def add_model(command: Parser) -> None:
    text = "a .keras file"
    command.add_argument("model", type=path, metavar="MODEL", help=text)
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


def class_names(path: Path) -> list[str]:
    """Those of the file of `--class-names`, one name per line."""
    if not path.is_file():
        raise RuntimeError(f"--class-names must be a file. Received: {path}")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        text = f"--class-names must be a text file. Received: {path}"
        raise RuntimeError(text) from None


def add_artefact(command: Parser) -> None:
    text = "DIRECTORY/VERSION, or .onnx"
    command.add_argument("artefact", type=path, metavar="ARTEFACT", help=text)


def add_overwrite(command: Parser, text: str) -> None:
    command.add_argument("--overwrite", action="store_true", help=text)


def add_seed(option: Callable, text: str) -> None:
    """`--seed`, by the `add_argument` of a parser or a group."""
    text += "; default: %(default)s"
    option("--seed", type=integer(0, LAST_SEED), default=0, metavar="N", help=text)


def add_norm(option: Callable, **settings: Any) -> None:
    """`--norm`, likewise."""
    text = "normalization of the network"
    if "default" in settings:
        text += "; default: %(default)s"
    option("--norm", choices=NORMS, help=text, **settings)


def add_changes(option: Callable, what: str) -> None:
    """`--epochs` and `--set`, of keys of `what`."""
    text = "training epochs; milestones and warm-up move along"
    option("--epochs", type=integer(1), metavar="N", help=text)
    text = f"change {what}; may be repeated"
    change: dict[str, Any] = dict(action="append", default=[], metavar="KEY=VALUE")
    option("--set", dest="overrides", **change, help=text)


def add_data(option: Callable) -> None:
    """Which images, by the `add_argument` of a parser or a group."""
    option("--data", metavar="SOURCE", help=f"the images: {FORMS}")
    text = "labels in the place of the training labels"
    option("--labels", metavar="npz:PATH:KEY", help=text)
    text = "images of a (global) batch"
    option("--batch-size", type=integer(1), metavar="N", help=text)
    text = "folder of tensorflow-datasets, or of the paths of a list"
    option("--data-dir", type=word, metavar="FOLDER", help=text)
    option("--skip-broken", action="store_true", help="leave out broken images")


def add_scaling(option: Callable, text: str) -> None:
    """`--mean` and `--std` of images, likewise; see `check_scaling`."""
    for flag, least in (("--mean", -LARGEST), ("--std", 1 / LARGEST)):
        numbers = listed(number(least), f"numbers from {least:g} to {LARGEST:g}")
        option(flag, type=numbers, metavar="X[,X,X]", help=text)


def check_scaling(options: argparse.Namespace, channels: int) -> None:
    """Raises `ValueError` unless `--mean` and `--std`, where they are there, have a
    number, or one for each channel."""
    for name in ("mean", "std"):
        values = getattr(options, name, None)
        if values is not None and len(values) not in (1, channels):
            allowed = f"a number, or one for each channel, {channels}"
            received = ",".join(format(value, "g") for value in values)
            raise ValueError(f"--{name} must be {allowed}. Received: {received}")


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
        type=listed(integer(1), f"integers from 1 to {LARGEST}"),
        default=list(BATCHES),
        metavar="N[,N]",
        help=f"batch sizes; default: {','.join(map(str, BATCHES))}",
    )
    option(
        "--sizes",
        type=listed(size, _SIZE),
        metavar="HxW[,HxW]",
        help="sizes of images, where they are open; default: 64x64,96x80",
    )
    text = "absolute difference that is allowed; default: 1e-5, for float16 1e-2"
    option("--atol", type=number(0), metavar="X", help=text)
    text = "difference relative to the model's outputs; default: 1e-4"
    option("--rtol", type=number(0), metavar="X", help=text)
    add_seed(option, "of random inputs")
    text = "a .json or .md file to write, of every check"
    option("--report", type=new_path, metavar="FILE", help=text)


def word(text: str) -> str:
    """A text that is not empty."""
    if not text:
        raise wrong("a text that is not empty", text)
    return text


def path(text: str) -> Path:
    """A path: Python takes none for the working folder."""
    return Path(word(text))


def new_path(text: str) -> Path:
    """A path that can be written to: no folder above it is a file."""
    result = path(text)
    for above in result.parents:
        if os.path.lexists(above) and not above.is_dir():
            raise wrong("a path in a folder", f"{text}, but {above} is no folder")
    return result


def folder(text: str) -> Path:
    """A folder that can be written to; it need not be there."""
    result = new_path(text)
    if os.path.lexists(result) and not result.is_dir():
        raise wrong("a folder", f"{text}, which is none")
    return result


def integer(minimum: int, maximum: int = LARGEST) -> Callable[[str], int]:
    """An integer between two others."""

    def parse(text):
        # Python refuses to read thousands of digits.
        number = int(text) if text.isdecimal() and len(text) < 100 else minimum - 1
        if not minimum <= number <= maximum:
            allowed = f"an integer of at least {minimum} and at most {maximum}"
            raise wrong(allowed, text)
        return number

    return parse


def number(minimum: float, maximum: float = LARGEST) -> Callable[[str], float]:
    """A number between two others."""

    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not minimum <= value <= maximum:
            raise wrong(f"a number from {minimum:g} to {maximum:g}", text)
        return value

    return parse


def one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    """A name among others."""

    def parse(text):
        if text not in names:
            raise wrong(f"one of {names}", text)
        return text

    return parse


def listed(parse: Callable[[str], Any], what: str) -> Callable[[str], list]:
    """Values between commas."""

    def parse_all(text):
        try:
            return [parse(part) for part in text.split(",")]
        except argparse.ArgumentTypeError:
            raise wrong(f"{what} between commas", text) from None

    return parse_all


def source(text: str) -> str:
    """Where images are from."""
    if not is_source(text):
        raise wrong(FORMS, text)
    return text


def size(text: str) -> tuple[int, int]:
    """Height and width: 224x224, or 224 for both."""
    try:
        sides = [integer(1, LARGEST_SIDE)(part) for part in text.split("x", 1)]
    except argparse.ArgumentTypeError:
        raise wrong(_SIZE, text) from None
    return sides[0], sides[-1]


def share(text: str) -> tuple[str, float]:
    """A normalizer and its ratio."""
    name, _, ratio = text.partition("=")
    try:
        return name, float(ratio)
    except ValueError:
        raise wrong("NAME=SHARE, such as batch=0.9", text) from None


def fact(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a value that is JSON is taken as such."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise wrong("KEY=VALUE, such as licence=MIT", text)
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def wrong(allowed: str, text: str) -> argparse.ArgumentTypeError:
    """The error of an option."""
    received = text or repr(text)
    return argparse.ArgumentTypeError(f"must be {allowed}. Received: {received}")
