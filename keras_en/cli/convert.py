"""`keras-en convert`: put another normalization into the network of a .keras file.

Replaces every normalization layer; all other weights, and what the old layers had
learned, are kept. Prints what became of each.
"""

import argparse
from pathlib import Path
from typing import Any

from keras_en import files
from keras_en.cli.options import add_command, add_model, add_overwrite, say, share
from keras_en.export.serving import loaded
from keras_en.models import norms
from keras_en.surgery import replace_normalization


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
    source, out = options.model, options.out
    _check_paths(source, out, options.overwrite)
    ratios = dict(options.initial_ratio) if options.initial_ratio else None
    new, report = replace_normalization(
        loaded(source), options.to, initial_ratios=ratios, return_report=True
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
    say(report)
    say(f"Written: {out}")


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
