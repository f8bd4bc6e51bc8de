"""The library, imported for a command: without the notes of TensorFlow, and with one
line for who interrupts it."""

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from keras_en import command
from keras_en.text import one_line

# What `import keras_en` imports, whose layers files of models then may hold.
_PARTS = ("keras_en.layers", "keras_en.surgery", "keras_en.training")
_LEVEL, _SILENT = "TF_CPP_MIN_LOG_LEVEL", "3"


def imported(name: str, verbose: bool) -> ModuleType:
    """The module of a command, behind the library.

    Args:
        name: Of the module.
        verbose: Whether TensorFlow may say what it likes, as it may in a process that
            calls `main` itself, or whose environment has a log level.

    Raises:
        RuntimeError: Something cannot be imported.
    """
    silent = command.is_command() and not verbose
    if silent:
        silent = os.environ.setdefault(_LEVEL, _SILENT) == _SILENT
    with _silenced() if silent else contextlib.nullcontext():
        module = _module(name)
    if silent:
        # Those of Python, which ask for changes of other packages.
        for logger in ("absl", "tensorflow"):
            logging.getLogger(logger).setLevel(logging.ERROR)
    return module


def _module(name):
    try:
        for part in _PARTS:
            importlib.import_module(part)
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(
            "The library cannot be imported; `python -c 'import keras_en'` says more: "
            f"{one_line(error)}"
        ) from error


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Inside, nothing is written to standard error, by C++ either, which has no log
    level yet. It is what an error leaves behind."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        terminal = os.dup(2)
        command.answer_signals(terminal)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(terminal, notes.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            command.answer_signals()
            os.close(terminal)
