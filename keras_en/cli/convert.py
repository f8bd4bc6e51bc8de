"""`keras-en convert`: put another normalization into the network of a .keras file.

Replaces every normalization layer; all other weights, and what the old layers had
learned, are kept. Prints what became of each.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_en import files
from keras_en.cli.options import add_command, add_model, add_overwrite, say, share
from keras_en.export.serving import loaded
from keras_en.models import norms
from keras_en.surgery import Report, replace_normalization


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = add_command(commands, "convert", __doc__, run)
    command.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add_model(command)
    option, new = command.add_argument, "the new .keras file"
    option("--to", choices=norms.NAMES, default="en", help="the new one")
    option("--out", type=Path, required=True, metavar="NEW", help=new)
    option(
        "--initial-ratio",
        type=share,
        action="append",
        metavar="NAME=SHARE",
        help="ratio that a normalizer starts with, such as batch=1.0; may be repeated; "
        "default: 0.9 for the old one",
    )
    add_overwrite(command, "replace the file of --out")


def run(options: argparse.Namespace) -> None:
    ratios = dict(options.initial_ratio) if options.initial_ratio else None
    out = options.out
    say(convert(options.model, options.to, out, ratios, options.overwrite))
    say(f"Written: {out}")


def convert(
    source: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str],
    initial_ratios: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> Report:
    """Loads a `.keras` file, replaces its normalizations and saves it as another,
    which is not compiled.

    Args:
        source: Path of the file.
        to, initial_ratios: As in `replace_normalization`.
        out: Path of the new file, which appears when it is whole.
        overwrite: Whether `out` may exist.

    Returns:
        The `Report` of `replace_normalization`.

    Raises:
        RuntimeError: A path is none of a `.keras` file, or a `.keras` file would not
            keep the new network. Nothing was written.
        ValueError: The file cannot be read, or its network not be converted. Nothing
            was written.
    """
    source, out = Path(source), Path(out)
    _check_paths(source, out, overwrite)
    new, report = replace_normalization(
        loaded(source), to, initial_ratios=initial_ratios, return_report=True
    )
    if report.rebuilt_by_code:
        raise RuntimeError(
            f"{source} cannot be converted: a .keras file would not keep "
            f"{list(report.rebuilt_by_code)}, which the code of other layers makes"
        )
    # Keras looks at the ending.
    with files.staged(out, out.name) as staged:
        new.save(staged.path)
        staged.publish()
    return report


def _check_paths(source, out, overwrite):
    for name, path in (("MODEL", source), ("--out", out)):
        if path.suffix != ".keras":
            raise _wrong(name, "a path of a .keras file", path)
    if not source.is_file():
        raise _wrong("MODEL", "a file that exists", source)
    if out.is_dir() or (out.exists() and not overwrite):
        hint = "a folder" if out.is_dir() else "which exists; --overwrite replaces it"
        raise _wrong("--out", "a new file", f"{out}, {hint}")
    if not out.parent.is_dir():
        raise _wrong("--out", "in a folder that exists", out)


def _wrong(name, allowed, received):
    return RuntimeError(f"{name} must be {allowed}. Received: {received}")
