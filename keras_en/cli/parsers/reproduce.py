"""`keras-en reproduce`: train a table of the paper and print it.

Trains every network of the table with every seed, one after the other, each in a
process of its own; finished ones are skipped, interrupted ones go on. Prints the table
in the paper's layout, its figures beside ours, and what EN gains over the others on the
same seeds; writes results.md, results.csv, curves.png and points.png. A .yaml file in
the place of a table's name is a grid of your own.

Examples:
  keras-en reproduce table5 --dry-run
  keras-en reproduce table5 --seeds 0-4 --only EN
"""

import argparse
import contextlib
import shlex
from collections.abc import Sequence
from typing import Any

from keras_en.cli import options as shared
from keras_en.cli.choices import LAST_SEED, SCALES, tables

_MOST_SEEDS = 1000
# Options of `keras-en train` that leave alone what is trained.
_HOW = ["--strategy", "--replicas", "--jit", "--mixed-precision", "--deterministic"]
_HOW += ["--checkpoint-every", "--data-dir", "--skip-broken", "--quiet", "--verbose"]


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, "the same command goes on")
    option = command.add_argument
    text = f"one of {', '.join(tables())}, or a .yaml file"
    option("table", metavar="TABLE", help=text)
    text = "small, the default: what two CPU cores and the data at hand can do; paper: "
    text += "the paper's, which takes GPUs and its data"
    option("--scale", choices=SCALES, default="small", help=text)
    text = "as 0-4 or 0,1,2; default: those of each recipe"
    option("--seeds", type=_seeds, metavar="SEEDS", help=text)
    text = "runs whose row or column has this text; may be repeated"
    option("--only", action="append", default=[], metavar="TEXT", help=text)
    shared.add_changes(option, "a key of every recipe")
    text = "folder of all runs; default: runs/TABLE-SCALE, with one scale runs/TABLE"
    option("--output", type=shared.folder, metavar="FOLDER", help=text)
    text = "list the runs, and which are finished; train nothing"
    option("--dry-run", action="store_true", help=text)
    text = 'options of `keras-en train`, as --train="--jit --strategy mirrored"'
    option("--train", type=_options, default=[], metavar="OPTIONS", help=text)


def _options(text):
    """Those that say how it is computed: what is trained stands in the table."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f"must be options as a shell has them: {error}. Received: {text}"
        raise argparse.ArgumentTypeError(message) from None
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in _HOW:
            raise argparse.ArgumentTypeError(
                f"must be of {', '.join(_HOW)}; --seeds, --set and --epochs are the "
                f"table's own. Received: {word}"
            )
    return words


def _seeds(text):
    seed = shared.integer(0, LAST_SEED)
    first, sign, last = text.partition("-")
    values: Sequence[int] = ()
    with contextlib.suppress(argparse.ArgumentTypeError):
        if sign:
            values = range(seed(first), seed(last) + 1)
        else:
            values = [seed(part) for part in text.split(",")]
    if not 0 < len(values) <= _MOST_SEEDS:
        allowed = "FIRST-LAST, such as 0-4, or integers between commas, from 0 to "
        raise shared.wrong(f"{allowed}{LAST_SEED}, at most {_MOST_SEEDS} seeds", text)
    return list(values)
