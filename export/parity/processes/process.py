"""What the programs of this folder, which are run by path, have in common."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The exit code of a program that cannot write.
CANNOT_WRITE = 74


def run(main: Callable) -> None:
    """Calls `main` with the words of the command line, without Keras: an artefact that
    needs it must fail here."""
    sys.modules["keras"] = sys.modules["keras_en"] = None  # type: ignore[assignment]
    threading.Thread(target=_end_with_input, daemon=True).start()
    main(*sys.argv[1:])


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Inside, what cannot be written ends this process with `CANNOT_WRITE`."""
    try:
        yield
    except OSError as error:
        print(f"OSError: {error}", file=sys.stderr, flush=True)
        os._exit(CANNOT_WRITE)


def save(path: Path, values: dict[str, Any]) -> None:
    """Writes arrays or single values; text as bytes, which need no pickle."""
    import numpy as np

    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in values.items()}
    text = {name: v.astype("S") for name, v in arrays.items() if v.dtype == object}
    files: dict[str, Any] = {**arrays, **text}
    with writing():
        np.savez(path, **files)


def _end_with_input():
    """Nobody writes to it: it ends when the process that started this one does."""
    while os.read(0, 1):
        pass
    os._exit(1)
