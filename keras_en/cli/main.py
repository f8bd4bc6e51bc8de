"""`keras-en`: the command line."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from keras_en.cli import convert, export, inspect, models, quickstart, train, verify
from keras_en.cli.options import NOTHING, NotEqual, import_modules, say
from keras_en.text import one_line
from keras_en.version import __version__

COMMANDS = (quickstart, train, convert, export, verify, inspect, models)
_ERRORS = (OSError, RuntimeError, ValueError, TypeError, FloatingPointError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `keras-en` and returns its exit code.

    0: done. 1: an artefact is not equal to its model. 2: wrong usage, one line on
    standard error. 130: interrupted. 141: nobody reads the output any more, as of
    `| head -1`.
    """
    # Up to here `keras_en/__init__.py` answers to Ctrl-C.
    with contextlib.suppress(ValueError):
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupted = NOTHING
    try:
        options = _parser().parse_args(arguments)
        interrupted = options.interrupted
        import_modules(getattr(options, "modules", []))
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _said(f"\nkeras-en: interrupted; {interrupted}", 130)
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except NotEqual as error:
        return _said(f"keras-en: {error}", 1)
    except _ERRORS as error:
        return _said(f"keras-en: error: {one_line(error, limit=None)}", 2)
    return 0


def _said(text, code):
    say(text, file=sys.stderr)
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
