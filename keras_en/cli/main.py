"""`keras-en`: the command line."""

import argparse
import sys
from collections.abc import Sequence

from keras_en.cli import convert, export, inspect, models, quickstart, train, verify
from keras_en.cli.options import NotEqual
from keras_en.text import one_line
from keras_en.version import __version__

COMMANDS = (quickstart, train, convert, export, verify, inspect, models)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `keras-en` and returns its exit code.

    0: done. 1: an artefact is not equal to its model. 2: wrong usage, one line on
    standard error. 130: interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        return _said(f"\nkeras-en: interrupted; {options.interrupted}", 130)
    except NotEqual as error:
        return _said(f"keras-en: {error}", 1)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        return _said(f"keras-en: error: {one_line(error, limit=None)}", 2)
    return 0


def _said(text, code):
    print(text, file=sys.stderr)
    return code


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-en", description="Exemplar Normalization for Keras 3."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser
