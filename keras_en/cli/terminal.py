"""What commands print: results, and what is being done meanwhile."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from keras_en.text import as_json, printable


class _Manner:
    """How this process speaks."""

    quiet = False
    for_programs = False


@contextlib.contextmanager
def manner(quiet: bool, for_programs: bool) -> Iterator[None]:
    """Inside, `progress` is silent if `quiet`, and goes to standard error where
    standard output is `for_programs`."""
    before = _Manner.quiet, _Manner.for_programs
    _Manner.quiet, _Manner.for_programs = quiet, for_programs
    try:
        yield
    finally:
        _Manner.quiet, _Manner.for_programs = before


def say(text: object = "", file: Any = None) -> None:
    """Prints a text: names in it may come from files of others, and control no
    terminal."""
    print(printable(str(text)), file=file)


def progress(text: object) -> None:
    """Prints at once what is being done, unless `--quiet`."""
    if not _Manner.quiet:
        print(printable(str(text)), file=_progress_file(), flush=True)


def _progress_file():
    return sys.stderr if _Manner.for_programs else sys.stdout


def is_quiet() -> bool:
    """Whether only results are printed."""
    return _Manner.quiet


def progressing(subject: str, every: float = 2.0) -> Callable[[int], None]:
    """A function of how many are done, that says so by `progress` now and then.

    Args:
        subject: What they are.
        every: Seconds between two lines.
    """
    last = time.monotonic()

    def step(count):
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            progress(f"  {count:,} {subject}")

    return step


def say_json(values: Any) -> None:
    """Prints a result for programs."""
    say(as_json(values))
