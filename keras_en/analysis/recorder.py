"""Important ratios while a network learns: epoch by epoch, of the same samples."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_en import files
from keras_en.analysis.collect import Collector
from keras_en.analysis.npz import opened
from keras_en.analysis.ratios import Ratios, arrays_of, from_arrays
from keras_en.arguments import check, integer, refused


@dataclass(frozen=True, eq=False)
class RatioHistory:
    """The ratios of a fixed set of samples behind several epochs.

    >>> import numpy as np
    >>> from keras_en.analysis.running import Layer
    >>> layer = Layer("norm", ("layer", "batch"))
    >>> start, end = np.array([[0.5, 0.5]]), np.array([[0.1, 0.9]])
    >>> history = RatioHistory({0: Ratios.of([layer], [start]),
    ...                         30: Ratios.of([layer], [end])})
    >>> history.epochs, history.mean()[:, 0].tolist()
    ([0, 30], [[0.5, 0.5], [0.1, 0.9]])

    Attributes:
        by_epoch: From the number of epochs that were done, 0 before the first, to
            `Ratios`.
    """

    by_epoch: Mapping[int, Ratios]

    @property
    def epochs(self) -> list[int]:
        """Ascending."""
        return sorted(self.by_epoch)

    @property
    def last(self) -> Ratios:
        """Behind the last epoch."""
        return self.by_epoch[self.epochs[-1]]

    def mean(self) -> np.ndarray:
        """`(E, L, K)`, over all samples."""
        return np.array([self.by_epoch[epoch].mean() for epoch in self.epochs])

    def by_class(self) -> np.ndarray:
        """`(E, C, L, K)`, the mean of each class."""
        return np.array([self.by_epoch[epoch].by_class() for epoch in self.epochs])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an `.npz` file, whole or not at all; samples as float16."""
        path = Path(path)
        arrays: dict[str, Any] = {"epochs": np.array(self.epochs)}
        for epoch, ratios in self.by_epoch.items():
            for name, values in arrays_of(ratios).items():
                half = name.startswith("samples_")
                values = values.astype("float16") if half else values
                arrays[f"{epoch}/{name}"] = values
        with files.staged(path, path.name) as staged:
            with staged.path.open("wb") as file:
                np.savez_compressed(file, **arrays)
            staged.publish()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RatioHistory":
        """What `save`, or `RatioRecorder`, wrote.

        Raises:
            ValueError: The file is no such one, or broken.
        """
        by_epoch = {}
        with opened(path) as arrays:
            names = list(arrays)
            for epoch in arrays["epochs"].tolist():
                start = f"{epoch}/"
                own = [name for name in names if name.startswith(start)]
                parts = {name.removeprefix(start): arrays[name] for name in own}
                by_epoch[epoch] = from_arrays(parts)
        return cls(by_epoch)


class RatioRecorder(keras.callbacks.Callback):
    """Notes the ratios of the same samples before training and behind epochs.

    With `fit` and `keras_en.training.fit`, on any backend. A training that goes on,
    with `initial_epoch` or from a checkpoint, goes on with the file; epochs that it
    repeats are replaced. Scalars for TensorBoard are written by
    `keras_en.training.monitor.TensorBoard(folder, probe=data)`.

    Args:
        data: Arrays of the samples, `(N, ...)`; some hundred are enough.
        labels: `(N,)`, the class of each, or `None`.
        path: An `.npz` file, written after each epoch that is noted, whole or not at
            all. `None`: `history` alone has them.
        layers: See `collect_ratios`.
        every: Note every so many epochs, and the last.
        class_names: Names of the classes, by label.

    Attributes:
        history: `RatioHistory`.

    Raises:
        ValueError, TypeError: See `collect_ratios`; or the file has ratios of other
            samples or layers.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_en import ExemplarNormalization
    >>> norm = ExemplarNormalization(normalizers=("layer", "batch"), name="norm")
    >>> model = keras.Sequential([keras.Input((8, 3)), norm], name="model")
    >>> model.compile("sgd", "mse")
    >>> x = np.random.default_rng(0).normal(size=(4, 8, 3))
    >>> recorder = RatioRecorder(x, [0, 0, 1, 1])
    >>> _ = model.fit(x, x, epochs=2, callbacks=[recorder], verbose=0)
    >>> recorder.history.epochs, recorder.history.by_class().shape
    ([0, 1, 2], (3, 2, 1, 2))
    """

    def __init__(
        self,
        data: Any,
        labels: Any = None,
        path: str | os.PathLike[str] | None = None,
        layers: Sequence[str] | None = None,
        every: int = 1,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        once = hasattr(data, "__next__")
        check(not once, "data", "the same in every epoch: arrays, no iterator", data)
        self.data, self.labels, self.layers = data, labels, layers
        self.every = integer("every", every, minimum=1)
        self.class_names = class_names
        self.path = None if path is None else Path(path)
        self.history = RatioHistory({})
        self._began = False
        self._collector: Collector | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._began = False
        if self.path is not None and self.path.is_file() and not self.history.by_epoch:
            self.history = RatioHistory.load(self.path)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._began:
            return
        self._began = True
        by_epoch = {e: r for e, r in self.history.by_epoch.items() if e <= epoch}
        self.history = replace(self.history, by_epoch=by_epoch)
        # What begins anew may be another network.
        if epoch == 0 or epoch not in by_epoch:
            self._note(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        done = epoch + 1
        last = done == (self.params or {}).get("epochs")
        if done % self.every == 0 or last:
            self._note(done)

    def _note(self, epoch):
        # On JAX asking for the model is what makes its variables current.
        model = self.model
        if self._collector is None or self._collector.model is not model:
            self._collector = Collector(model, self.layers)
        ratios = self._collector.collect(
            self.data, self.labels, class_names=self.class_names, verbose=0
        )
        for other in self.history.by_epoch.values():
            if (other.layers, other.count) != (ratios.layers, ratios.count):
                received = f"{self.path}, of other layers or samples"
                raise refused("path", "a file of the same training", received)
        by_epoch = {**self.history.by_epoch, epoch: ratios}
        self.history = replace(self.history, by_epoch=by_epoch)
        if self.path is not None:
            self.history.save(self.path)
