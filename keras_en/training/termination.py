"""SIGTERM, put off until a checkpoint is written."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Termination:
    """Whether this process is asked to end.

    Attributes:
        asked: Whether SIGTERM has come, and waits.
        waits: Whether it is to wait; otherwise it comes at once.
    """

    def __init__(self) -> None:
        self.asked = self.waits = False
        self._handler: Any = None

    def deliver(self) -> None:
        """Lets SIGTERM come that has waited; whoever handles it may go on."""
        self.asked = False
        self.restore()
        signal.raise_signal(signal.SIGTERM)
        self.install()

    def install(self) -> None:
        """From here on it may wait."""
        handler = signal.getsignal(signal.SIGTERM)
        # Of a handler that is not Python's nothing can be put back.
        if handler in (None, signal.SIG_IGN):
            return
        # Python has signals in the main thread only.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, self._came)
            self._handler = handler

    def restore(self) -> None:
        """From here on it comes at once."""
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None

    def _came(self, *_):
        self.asked = True
        if not self.waits:
            self.deliver()


@contextlib.contextmanager
def put_off(active: bool) -> Iterator[Termination]:
    """Inside, SIGTERM waits where the `Termination` says so.

    Args:
        active: Whether it may wait at all.
    """
    termination = Termination()
    if active:
        termination.install()
    try:
        yield termination
    finally:
        termination.restore()
    if termination.asked:
        signal.raise_signal(signal.SIGTERM)
