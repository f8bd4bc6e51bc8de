"""A process that is the command `keras-en`, from its first moment, before anything is
imported that takes seconds."""

import os
import signal
import sys

_MODULES = ("keras_en", "keras_en.cli")
_USUAL = ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))


def is_command() -> bool:
    """Whether this process was started as `keras-en` or `python -m keras_en`."""
    name = os.path.basename(getattr(sys, "argv", [""])[0])
    # "-m" while `python -m` imports the package.
    by_module = name == "-m" and any(
        word.removeprefix("-m") in _MODULES for word in sys.orig_argv
    )
    return by_module or name.removesuffix(".exe") == "keras-en"


def answer_signals(terminal: int = 2) -> None:
    """From here on Ctrl-C and SIGTERM end the process with one line, as long as nothing
    else answers to them: inside an import exceptions get lost.

    Args:
        terminal: File descriptor of what the line is written to.
    """

    def ended(number, _):
        word = b"interrupted" if number == signal.SIGINT else b"terminated"
        os.write(terminal, b"\nkeras-en: " + word + b"; nothing was written\n")
        os._exit(128 + number)

    for number, handler in _USUAL:
        before = signal.getsignal(number)
        if before == handler or is_answer(before):
            signal.signal(number, ended)


def is_answer(handler: object) -> bool:
    """Whether a handler of signals is that of `answer_signals`."""
    return getattr(handler, "__module__", "") == __name__
