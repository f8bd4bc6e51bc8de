"""Files and folders that appear whole, or not at all."""

import contextlib
import os
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


class Staged:
    """What is written beside its final place.

    Attributes:
        target: `pathlib.Path`, where it will be.
        path: `pathlib.Path`, where it is to be written, on the same disk.
    """

    def __init__(self, target, path):
        self.target, self.path = target, path

    def publish(self):
        """Moves all that stands beside `path`, it last, to the folder of `target`.

        What was there is replaced. Companions of a file, such as external weights,
        keep their names.

        Returns:
            `target`.
        """
        others = [part for part in self.path.parent.iterdir() if part != self.path]
        for part in others:
            _move(part, self.target.with_name(part.name))
        _move(self.path, self.target)
        return self.target


@contextlib.contextmanager
def staged(target, name="new"):
    """Yields a `Staged` for `target`, a file or a folder.

    It is lost, and no folder that had to be made stays, unless `publish` is called.

    Args:
        target: `pathlib.Path`.
        name: What the file or folder is called until it is published.
    """
    folder = target.parent
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # A name that is no number: TensorFlow Serving does not look at it.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as work:
            yield Staged(target, Path(work, name))
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def write_whole(path, partial, write):
    """Calls `write` with a file opened for bytes, which then becomes `path`.

    Whenever the process is killed, `path` is the old file or the new one. What stands
    at `partial` is removed, not written to: it may be a link to something else.

    Args:
        path: `pathlib.Path`.
        partial: `pathlib.Path` of what a killed process leaves, in the same folder.
        write: Function of a binary file.
    """
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder):
    """Inside, no other process, and no other call, has the lock of this folder.

    It is the system's: it leaves no file, and goes with the process, however that
    ends. Where there is none (Windows, some network file systems) nothing is locked.

    Raises:
        RuntimeError: Another has it.
    """
    try:
        import fcntl

        opened = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(
                    "A folder must be that of one run at a time. "
                    f"Received: {folder}, to which another run writes"
                ) from None
        yield
    finally:
        os.close(opened)


def _move(new, path):
    """Moves `new` to `path`; what was there is put aside first."""
    with _uninterrupted(), tempfile.TemporaryDirectory(dir=new.parent) as aside:
        old = Path(aside, "old")
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
