"""Artefacts appear whole, or not at all."""

import contextlib
import shutil
import signal
import tempfile
from pathlib import Path


def check_free(path, overwrite, name):
    """Raises `FileExistsError` if `path` is there and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"Argument `{name}` must be new, or overwrite=True (--overwrite). "
            f"Received: {path}, which exists"
        )


@contextlib.contextmanager
def beside(folder):
    """A hidden folder in `folder`, on the same disk as what will be moved out of it.

    Folders that had to be made are removed again if nothing is put into them.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # A name that is no number: TensorFlow Serving does not look at it.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as work:
            yield Path(work)
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def _uninterrupted():
    """Between two renames Ctrl-C would lose the old one, the new one or both."""
    handler = None
    # Python has signals in the main thread only.
    with contextlib.suppress(ValueError):
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def move(new, path, work):
    """Moves `new` to `path`; what was there goes through the folder `work`."""
    old = work / "old"
    with _uninterrupted():
        if path.exists():
            path.replace(old)
        try:
            new.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
