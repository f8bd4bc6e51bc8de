"""`keras-en`: the command line."""

import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from keras_en import command, files
from keras_en.cli import library, parsers
from keras_en.cli.options import NOTHING, NotEqual, import_modules
from keras_en.cli.terminal import manner, say
from keras_en.text import one_line

_USUAL: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
_ERRORS = (OSError, RuntimeError, ValueError, TypeError, ArithmeticError)


class Terminated(KeyboardInterrupt):
    """The process is asked to end by SIGTERM; what Ctrl-C cleans up, it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `keras-en` and returns its exit code.

    0: done. 1: an artefact is not equal to its model. 2: wrong usage, one line on
    standard error. 130: interrupted, 143: terminated. 141: nobody reads the output any
    more, as of `| head -1`.
    """
    interrupted = NOTHING
    _open_streams()
    try:
        parser = parsers.parser()
        if "_ARGCOMPLETE" in os.environ:
            _complete(parser)
        options = parser.parse_args(arguments)
        if options.command is None:
            say(parsers.START)
            sys.stdout.flush()
            return 0
        interrupted = options.interrupted
        name = f"keras_en.cli.{options.command}"
        module = library.imported(name, options.verbose)
        with _signals():
            with _temporary_files(), manner(options.quiet, options.json):
                import_modules(getattr(options, "modules", []))
                module.run(options)
            sys.stdout.flush()
    except Terminated:
        return _said(f"\nkeras-en: terminated; {interrupted}", 143)
    except KeyboardInterrupt:
        return _said(f"\nkeras-en: interrupted; {interrupted}", 130)
    except BrokenPipeError:
        _drop_output()
        return 141
    except NotEqual as error:
        return _said(f"keras-en: {error}", 1)
    except MemoryError as error:
        text = " ".join(("not enough memory.", one_line(error) * bool(str(error))))
        return _said(f"keras-en: error: {text.strip()}", 2)
    except _ERRORS as error:
        return _said(f"keras-en: error: {one_line(error, limit=None)}", 2)
    return 0


def _complete(parser):
    """Ends the process: a shell asks what may follow."""
    import argcomplete

    argcomplete.autocomplete(parser)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM are exceptions, unless they are ignored."""

    def terminate(*_):
        raise Terminated

    def ignored(unraisable):
        """Where Python ignores exceptions, as in a callback of its garbage collection,
        the signal comes again behind it."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)
            return
        terminated = isinstance(unraisable.exc_value, Terminated)
        number = signal.SIGTERM if terminated else signal.SIGINT
        timer = threading.Timer(0.1, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    # Before, `keras_en.command` answers to them.
    wanted: dict[int, Any] = {**_USUAL, signal.SIGTERM: terminate}
    before = {}
    with contextlib.suppress(ValueError):  # Python has them in the main thread only.
        for number, handler in wanted.items():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    hook, sys.unraisablehook = sys.unraisablehook, ignored
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            # It would say that nothing was written.
            own = command.is_answer(handler)
            signal.signal(number, _USUAL[number] if own else handler)


@contextlib.contextmanager
def _temporary_files() -> Iterator[None]:
    """Inside, those of all packages and processes are in one folder, which is gone
    afterwards, or with the next command if this process is killed."""
    with contextlib.ExitStack() as stack:
        try:
            folder = str(stack.enter_context(files.temporary()))
        except OSError:  # Not every command needs one.
            yield
            return
        before = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = before[0]
            if before[1] is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before[1]


def _open_streams():
    """Python has none in the place of one that is closed, as by `>&-`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _said(text, code):
    try:
        sys.stdout.flush()
    except OSError:  # As of a full disk.
        _drop_output()
    say(text, file=sys.stderr)
    return code


def _drop_output():
    """Python flushes once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
