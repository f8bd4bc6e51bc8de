"""How far a training is, on a terminal or in a log."""

import shutil
import sys
import threading
import time
from typing import Any, TextIO

import keras
import numpy as np

from keras_en.arguments import integer
from keras_en.training.strategies import is_chief

# Seconds between two pictures of the live line.
_INTERVAL = 0.2
_CLEARED = "\r\x1b[K"


class Progress(keras.callbacks.Callback):
    """A line an epoch: metrics, images a second, and the time left of the training.

    In the place of Keras's progress bar, for `keras_en.training.fit`, which leaves its
    own out then, and for `model.fit(verbose=0)`. On a terminal a line lives while an
    epoch runs. Only the process that writes files prints.

    Images a second are those of training steps, the time between their ends: neither
    the first step of each size of batch counts, which is compiled, nor validation. The
    time left has validation in it, as the epoch before had.

    Args:
        images: Images of an epoch.
        batch_size: Images of a step; the last one of an epoch may have fewer.
        stream: Where to print. `None`: `sys.stdout`.

    Raises:
        ValueError, TypeError: A number is no positive integer.
    """

    def __init__(
        self, images: int, batch_size: int, stream: TextIO | None = None
    ) -> None:
        super().__init__()
        # Keras calls `on_train_batch_end` in another thread then, once the device is so
        # far, and the next step need not wait. On JAX that step has taken the memory of
        # the metrics by then.
        self.async_safe = keras.backend.backend() == "tensorflow"
        self._images = integer("images", images, minimum=1)
        self._batch_size = integer("batch_size", batch_size, minimum=1)
        self._stream = stream
        self._lock = threading.Lock()
        self._restart()

    def _restart(self):
        self._epoch = self._done = 0
        # Sizes of steps that have run before; images and seconds of such steps.
        self._sizes: set[int] = set()
        self._total = self._of_epoch = (0, 0.0)
        self._last = self._shown = time.perf_counter()
        # What an epoch takes beside its steps.
        self._rest = 0.0
        self._width = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._restart()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if epoch == self._epoch + 1:
            self._rest = now - self._last
        self._epoch, self._last, self._of_epoch = epoch, now, (0, 0.0)
        self._done = -1

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._done < 0:
            # A resumed epoch begins in its middle.
            self._done = batch * self._batch_size
            if not self._sizes:
                self._live("compiling the first step")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        with self._lock:
            done = min(self._images, (batch + 1) * self._batch_size)
            size = done - self._done
            if size <= 0:
                return
            if size in self._sizes:
                self._of_epoch = _plus(self._of_epoch, size, now - self._last)
                self._total = _plus(self._total, size, now - self._last)
            self._sizes.add(size)
            self._done, self._last = done, now
            if self._is_terminal() and now - self._shown >= _INTERVAL:
                self._shown = now
                share = f"{done / self._images:.0%}"
                self._live(" - ".join([share, *self._figures(logs, self._total)]))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._rest = time.perf_counter() - self._last
        self._done = self._images
        self._print(self._line(*self._figures(logs, self._of_epoch)), "\n")

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the live line of a training that has not come to its end."""
        if self._width:
            self._print("", "\n", cleared=False)

    def _figures(self, logs, counted):
        """Texts: metrics, images a second, the time left."""
        texts = [
            f"{name}: {_figure(value)}"
            for name, value in (logs or {}).items()
            if np.ndim(value) == 0
        ]
        images, seconds = counted
        if seconds > 0:
            texts.append(f"{images / seconds:,.0f} images/s")
        left = self._left()
        return texts if left is None else [*texts, f"{duration(left)} left"]

    def _left(self):
        """Seconds to the end of the training; `None` there, or if no step tells."""
        images, seconds = self._total
        if not images:
            return None
        epochs = self.params["epochs"] - self._epoch
        ahead = self._images * epochs - max(self._done, 0)
        ended = self._done >= self._images
        left = ahead * seconds / images + (epochs - ended) * self._rest
        return left if ahead else None

    def _line(self, *texts):
        epoch = f"Epoch {self._epoch + 1}/{self.params['epochs']}"
        return " - ".join([epoch, *texts])

    def _live(self, text):
        """Shows a line that the next one replaces; in a log, where lines stay."""
        line = self._line(text)
        if self._is_terminal():
            # A line that the terminal breaks would not be replaced.
            line = line[: shutil.get_terminal_size().columns - 1]
            self._print(line)
        else:
            self._print(line, "\n")

    def _is_terminal(self):
        stream = self._stream or sys.stdout
        return hasattr(stream, "isatty") and stream.isatty()

    def _print(self, text, end="", cleared=True):
        if not writes(self.model):
            return
        stream = self._stream or sys.stdout
        before = _CLEARED if cleared and self._width else ""
        self._width = 0 if end else len(text)
        stream.write(before + text + end)
        stream.flush()


def duration(seconds: float) -> str:
    """A time as people say it: "12 s", "3:05", "1:02:03".

    >>> duration(12.4), duration(185), duration(3723)
    ('12 s', '3:05', '1:02:03')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


def _plus(counted, images, seconds):
    return counted[0] + images, counted[1] + seconds


def _figure(value):
    value = float(value)
    small = value != 0 and abs(value) < 1e-3
    return f"{value:.2e}" if small else f"{value:.4f}"


def writes(model: keras.Model) -> bool:
    """Whether this process is the one that prints and writes files."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return is_chief(model.distribute_strategy)
    if backend == "jax":
        import jax

        return jax.process_index() == 0
    return True
