"""Mean and variance of rows that come in parts, by class."""

from typing import Any, NamedTuple

import numpy as np

from keras_en.arguments import refused

# The class of rows without one.
NO_CLASS = -1
# How far a row may be from 1.
TOLERANCE = 1e-5


class Layer(NamedTuple):
    """A layer, or one of the calls of a layer that runs more than once.

    - `path`: `layer.path`, with `/1`, `/2`, ... behind it for later calls; of a
      Switchable Normalization `/mean` and `/variance`.
    - `pool`: its normalizers, the columns of its ratios.
    - `size`: the spatial size of its input, such as `(32, 32)`.
    - `constant`: whether its ratios are the same for all samples by construction.
    """

    path: str
    pool: tuple[str, ...]
    size: tuple[int, ...] = ()
    constant: bool = False

    def checked(self, values: Any, start: int = 0) -> np.ndarray:
        """Ratios `(n, K)`, those of the samples from `start` on.

        Raises:
            ValueError: They are not finite, or a row does not sum to 1; it names the
                layer and the sample.
        """
        values, columns = np.asarray(values), len(self.pool)
        if values.ndim != 2 or values.shape[1] != columns:
            allowed = f"ratios (N, {columns}) in {self.path}"
            raise refused("samples", allowed, f"shape {values.shape}")
        wrong = ~(np.abs(values.sum(1, dtype="float64") - 1) <= TOLERANCE)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            received = f"{values[row].tolist()} in {self.path}, sample {start + row}"
            raise refused("model", "one whose ratios are finite and sum to 1", received)
        return values


class Running:
    """Count, mean and sum of squared deviations of rows `(n, K)`, a class each.

    Parts are merged as Chan et al. (1979) do, which cannot cancel.

    Attributes:
        classes: `(C,)` labels, int64, in the order in which they came.
        counts: `(C,)`. mean, squares: `(C, K)`, float64.
    """

    def __init__(self, columns: int) -> None:
        self.classes = np.empty(0, "int64")
        self.counts = np.empty(0, "int64")
        self.mean = np.empty((0, columns))
        self.squares = np.empty((0, columns))

    def add(self, values: np.ndarray, labels: np.ndarray) -> None:
        """Adds rows `(n, K)` with labels `(n,)`."""
        values = values.astype("float64")
        classes, inverse = np.unique(labels, return_inverse=True)
        members = (inverse == np.arange(len(classes))[:, None]).astype("float64")
        counts = members.sum(1)
        mean = members @ values / counts[:, None]
        squares = members @ (values - mean[inverse]) ** 2
        rows = self._rows(classes)
        self.counts[rows], self.mean[rows], self.squares[rows] = _merged(
            (self.counts[rows], self.mean[rows], self.squares[rows]),
            (counts.astype("int64"), mean, squares),
        )

    def _rows(self, classes):
        new = classes[~np.isin(classes, self.classes)]
        if len(new):
            more = np.zeros((len(new), self.mean.shape[1]))
            self.classes = np.concatenate([self.classes, new])
            self.counts = np.concatenate([self.counts, np.zeros(len(new), "int64")])
            self.mean = np.concatenate([self.mean, more])
            self.squares = np.concatenate([self.squares, more])
        order = np.argsort(self.classes)
        return order[np.searchsorted(self.classes, classes, sorter=order)]

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance `(K,)` of all rows."""
        count = self.counts.sum()
        shares = self.counts[:, None] / count
        mean = (shares * self.mean).sum(0)
        between = (shares * (self.mean - mean) ** 2).sum(0)
        return mean, between + self.squares.sum(0) / count

    def by_class(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance `(C, K)` of these classes; NaN of absent ones."""
        mean = np.full((len(classes), self.mean.shape[1]), np.nan)
        variance = mean.copy()
        for row, label in enumerate(classes):
            for i in np.flatnonzero(self.classes == label):
                mean[row] = self.mean[i]
                variance[row] = self.squares[i] / self.counts[i]
        return mean, variance


def _merged(first, second):
    (n, mean, squares), (m, other, others) = first, second
    share = (m / (n + m))[:, None]
    difference = other - mean
    squares = squares + others + n[:, None] * share * difference**2
    return n + m, mean + share * difference, squares
