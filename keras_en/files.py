"""Files and folders that appear whole, or not at all."""

import contextlib
import errno
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

# Of a folder beside the final place, and of one among the system's temporary files;
# names that are no number: TensorFlow Serving does not look at them.
PARTIAL, TEMPORARY = ".partial-", ".partial-keras_en-"
_RANDOM = "[a-z0-9_]{8}"
# Holds what is about to be replaced.
_ASIDE = ".aside"
# Of a disk that is full, a quota, a limit on files, a folder that is not to be written.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


class CannotWrite(OSError):
    """A file cannot be written, as its writer says in its own way."""


def cannot_write(error):
    """Whether an exception speaks of the place that is written to."""
    full = isinstance(error, OSError) and error.errno in _NO_ROOM
    return full or isinstance(error, CannotWrite)


def check_free(path, overwrite, name):
    """Raises `FileExistsError` if `path` is there and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"Argument `{name}` must be new, or overwrite=True (--overwrite). "
            f"Received: {path}, which exists"
        )


def check_folder(output, artefacts, again, otherwise):
    """Raises `FileExistsError` unless `output` is new, empty or holds a run, which it
    may only `again`; `otherwise` is the option that says so."""
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"--output must be a folder. Received: {output}, a file")
    # A killed process may have left what it was writing.
    names = (entry.name for entry in output.iterdir())
    entries = {name for name in names if not name.startswith(PARTIAL)}
    foreign = sorted(entries.difference(artefacts))
    if foreign:
        raise FileExistsError(
            "--output must be a new or empty folder, or hold a run only. "
            f"Received: {output}, which holds {', '.join(foreign[:5])}"
        )
    if entries and not again:
        raise FileExistsError(
            f"--output must not hold a run already; {otherwise}. Received: {output}"
        )


@contextlib.contextmanager
def temporary(folder=None, prefix=TEMPORARY):
    """Yields the path of a new folder, which is gone afterwards.

    What processes that are dead have left beside it is removed first: as long as a
    process lives it has the lock of its folders. Where there are no locks, nothing is.

    Args:
        folder: `pathlib.Path` of where it is. `None`: among the temporary files.
        prefix: What its name begins with.
    """
    folder, path, lock = Path(folder or tempfile.gettempdir()), None, None
    try:
        with _later():
            _remove_left(folder, prefix)
            path, lock = _own_folder(folder, prefix)
        yield path
    finally:
        if path is not None:
            with _later():
                shutil.rmtree(path, ignore_errors=True)
                lock.close()


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
        keep their names. It is too late for Ctrl-C then.

        Returns:
            `target`.
        """
        others = [part for part in self.path.parent.iterdir() if part != self.path]
        with _later() as signals:
            for part in others:
                _move(part, self.target.with_name(part.name))
            _move(self.path, self.target)
            signals.discard(signal.SIGINT)
        return self.target


@contextlib.contextmanager
def staged(target, name="new"):
    """Yields a `Staged` for `target`, a file or a folder.

    It is lost, and no folder that had to be made stays, unless `publish` is called.

    Args:
        target: `pathlib.Path`.
        name: What the file or folder is called until it is published.

    Raises:
        CannotWrite: Inside, a writer that did not say which file raised `OSError`.
    """
    folder = target.parent
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        with _named(target):
            folder.mkdir(parents=True, exist_ok=True)
            with temporary(folder, PARTIAL) as work:
                yield Staged(target, work / name)
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def _named(path):
    """Inside, a writer that does not say which file raises `CannotWrite`, that does."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            text = f"{path} cannot be written: {error.strerror}"
            raise CannotWrite(text) from error
        raise


def write(path, save):
    """Writes a file, and what `save` puts beside it, that is there as a whole, or as it
    was.

    Args:
        path: `pathlib.Path`.
        save: Function of the path that it is to write.
    """
    with staged(path, path.name) as new:
        save(new.path)
        new.publish()


def write_text(path, text):
    """Writes a text that is there as a whole, or as it was."""
    write(path, lambda new: new.write_text(text, encoding="utf-8"))


def write_whole(path, partial, write):
    """Calls `write` with a file opened for bytes, which then becomes `path`.

    Whenever the process is killed, `path` is the old file or the new one. What stands
    at `partial` is removed, not written to: it may be a link to something else.

    Args:
        path: `pathlib.Path`.
        partial: `pathlib.Path` of what a killed process leaves, in the same folder.
        write: Function of a binary file.

    Raises:
        CannotWrite: There is no room for it.
    """
    partial.unlink(missing_ok=True)
    try:
        with _named(path), partial.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def append(path, data):
    """Adds bytes to the end of a file, which is made if it is not there, all of them or
    none.

    Raises:
        CannotWrite: There is no room for them.
    """
    size = path.stat().st_size if path.exists() else None
    try:
        with _named(path), path.open("ab") as file:
            file.write(data)
    except BaseException:
        with contextlib.suppress(OSError):
            if size is None:
                path.unlink()
            else:
                os.truncate(path, size)
        raise


@contextlib.contextmanager
def locked(folder):
    """Inside, no other process, and no other call, has the lock of this folder.

    It is the system's: it leaves no file, and goes with the process, however that
    ends. Where there is none (Windows, some network file systems) nothing is locked.

    Raises:
        RuntimeError: Another has it.
    """
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(_locked(folder))
        except BlockingIOError:
            raise RuntimeError(
                "A folder must be that of one run at a time. "
                f"Received: {folder}, to which another run writes"
            ) from None
        yield


@contextlib.contextmanager
def _locked(folder, wait=False):
    """Yields whether a folder is locked, which it is not where there are no locks.

    Raises:
        BlockingIOError: Another has the lock, and `wait` is `False`.
    """
    with contextlib.ExitStack() as opened:
        is_locked = True
        try:
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            opened.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except (ImportError, OSError):
            is_locked = False
        yield is_locked


def _own_folder(folder, prefix):
    """A new folder, and its lock, which has to be closed."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        with contextlib.ExitStack() as lock:
            lock.enter_context(_locked(path, wait=True))
            # Before, another may have taken it for that of a dead process.
            if path.exists():
                return path, lock.pop_all()


def _remove_left(folder, prefix):
    """Removes this user's folders that no living process has the lock of."""
    pattern, paths = re.compile(re.escape(prefix) + _RANDOM), []
    with contextlib.suppress(OSError):  # A folder that may not be read.
        paths = [p for p in folder.iterdir() if pattern.fullmatch(p.name)]
    for path in paths:
        if path.is_symlink():
            continue
        with contextlib.suppress(OSError), _locked(path) as is_locked:
            if is_locked and path.stat().st_uid == os.geteuid():
                _put_back(path)
                shutil.rmtree(path, ignore_errors=True)


def _put_back(path):
    """Of a process that was killed between the two renames of `_move`."""
    for old in path.glob(f"{_ASIDE}/*"):
        target = path.with_name(old.name)
        if not target.exists():
            old.replace(target)


def _move(new, path):
    """Moves `new` to `path`; a folder that was there is put aside first."""
    if not path.is_dir():
        new.replace(path)
        return
    aside = new.parent / _ASIDE
    aside.mkdir(exist_ok=True)
    old = aside / path.name
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise


@contextlib.contextmanager
def _later():
    """What would interrupt this process inside, Ctrl-C and SIGTERM, comes afterwards:
    between two steps it would leave a folder, or lose the old one, the new or both.

    Yields:
        Set of the signals that have come; those that are left in it are raised.
    """
    signals, handlers = set(), {}
    # Python has signals in the main thread only.
    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            # `None`: of a handler that is not Python's.
            if signal.getsignal(number) is not None:
                handlers[number] = signal.signal(number, lambda n, _: signals.add(n))
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in signals:
            signal.raise_signal(number)
