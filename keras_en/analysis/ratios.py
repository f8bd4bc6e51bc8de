"""`Ratios`: what a network chose, by layer, class and sample."""

import csv
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_en import files
from keras_en.analysis.npz import opened
from keras_en.analysis.running import NO_CLASS, Layer, Running
from keras_en.arguments import check, refused
from keras_en.layers.normalizer_pool import NORMALIZERS

# Ratios of samples that take more are written as float16, in bytes of float32.
LARGE = 1 << 26


@dataclass(frozen=True, eq=False, kw_only=True)
class Ratios(Mapping[str, np.ndarray]):
    """Important ratios, as a mapping from layer to `(N, K)`; see `collect_ratios`.

    >>> import numpy as np
    >>> layer = Layer("norm", ("layer", "batch"))
    >>> values = np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]], "float32")
    >>> ratios = Ratios.of([layer], [values], labels=[3, 3, 5])
    >>> ratios["norm"].shape, ratios.normalizers
    ((3, 2), ('layer', 'batch'))
    >>> ratios.mean().round(1).tolist()
    [[0.5, 0.5]]
    >>> ratios.classes.tolist(), ratios.by_class().round(1).tolist()
    ([3, 5], [[[0.3, 0.7]], [[0.9, 0.1]]])

    Attributes:
        layers: Tuple of `Layer`, in the network's order; `L` of them.
        count: `N`, the samples.
        classes: `(C,)`, the labels that there are, ascending; empty without labels.
        counts: `(C,)`, samples of each.
        means, variances: For each layer `(K,)`, over all samples.
        class_means, class_variances: For each layer `(C, K)`; NaN for a layer that has
            other rows than samples.
        samples: For each layer `(N, K)`; `None` if they were not wanted.
        labels, predicted: `(N,)`, or `None`: the classes, and those that the network
            said, the largest of its outputs.
        class_names: By label, or `None`.
    """

    layers: tuple[Layer, ...]
    count: int
    classes: np.ndarray
    counts: np.ndarray
    means: tuple[np.ndarray, ...]
    variances: tuple[np.ndarray, ...]
    class_means: tuple[np.ndarray, ...]
    class_variances: tuple[np.ndarray, ...]
    samples: tuple[np.ndarray, ...] | None = None
    labels: np.ndarray | None = None
    predicted: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        layers: Sequence[Layer],
        samples: Sequence[np.ndarray],
        labels: Any = None,
        predicted: Any = None,
        class_names: Sequence[str] | None = None,
    ) -> "Ratios":
        """Those of arrays `(N, K)`, one a layer.

        Raises:
            ValueError: An array has another shape, a row does not sum to 1, or there
                is not a label of each. The samples are the rows of the first array.
        """
        count = len(samples[0])
        targets = np.full(count, NO_CLASS)
        if labels is not None:
            labels = targets = np.asarray(labels, "int64")
            check(len(labels) == count, "labels", f"of {count} samples", len(labels))
        if predicted is not None:
            predicted = np.asarray(predicted, "int64")
        runnings = []
        for layer, values in zip(layers, samples, strict=True):
            running = Running(len(layer.pool))
            same = len(values) == count
            own = targets if same else np.full(len(values), NO_CLASS)
            running.add(layer.checked(values), own)
            runnings.append(running)
        return cls.from_runnings(
            layers, runnings, count, tuple(samples), labels, predicted
        ).named(class_names)

    @classmethod
    def from_runnings(
        cls,
        layers: Sequence[Layer],
        runnings: Sequence[Running],
        count: int,
        samples: tuple[np.ndarray, ...] | None,
        labels: np.ndarray | None,
        predicted: np.ndarray | None,
    ) -> "Ratios":
        """Those whose means and variances have been added up."""
        # Where some samples had no class, there are none.
        of_samples = [r for r in runnings if (r.classes != NO_CLASS).any()]
        classes, counts = np.empty(0, "int64"), np.empty(0, "int64")
        if of_samples and labels is not None:
            own = of_samples[0]
            order = [i for i in np.argsort(own.classes) if own.classes[i] != NO_CLASS]
            classes, counts = own.classes[order], own.counts[order]
        totals = [running.total() for running in runnings]
        by_class = [running.by_class(classes) for running in runnings]
        return cls(
            layers=tuple(layers),
            count=count,
            classes=classes,
            counts=counts,
            means=tuple(mean for mean, _ in totals),
            variances=tuple(variance for _, variance in totals),
            class_means=tuple(mean for mean, _ in by_class),
            class_variances=tuple(variance for _, variance in by_class),
            samples=samples,
            labels=labels,
            predicted=predicted,
        )

    def __getitem__(self, path: str) -> np.ndarray:
        index = self.paths.index(path) if path in self.paths else None
        if index is None:
            raise KeyError(path)
        if self.samples is None:
            raise refused("samples", "True where ratios of samples are asked for", path)
        return self.samples[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.layers)

    @functools.cached_property
    def paths(self) -> tuple[str, ...]:
        """Of each layer."""
        return tuple(layer.path for layer in self.layers)

    @functools.cached_property
    def normalizers(self) -> tuple[str, ...]:
        """Those of any layer: `K` of them."""
        pools = {name for layer in self.layers for name in layer.pool}
        return tuple(name for name in NORMALIZERS if name in pools)

    def mean(self) -> np.ndarray:
        """`(L, K)`, over all samples; NaN where a layer has not the normalizer."""
        return self._grid(self.means)

    def deviation(self) -> np.ndarray:
        """`(L, K)`, the standard deviation over all samples."""
        return np.sqrt(self._grid(self.variances))

    def by_class(self) -> np.ndarray:
        """`(C, L, K)`, the mean of each class.

        Raises:
            ValueError: There are no labels.
        """
        check(len(self.classes), "labels", "the class of each sample", None)
        return self._grid(self.class_means)

    def class_deviation(self) -> np.ndarray:
        """`(C, L, K)`, the standard deviation over the samples of each class."""
        return np.sqrt(self._grid(self.class_variances))

    def by_sample(self, path: str) -> np.ndarray:
        """`(N, K)`, the ratios of a layer, a column for each of `normalizers`."""
        layer = self.layers[self.paths.index(path)]
        values = np.full((len(self[path]), len(self.normalizers)), np.nan, "float32")
        values[:, [self.normalizers.index(name) for name in layer.pool]] = self[path]
        return values

    def named(self, class_names: Sequence[str] | None) -> "Ratios":
        """The same with names of the classes."""
        names = None if class_names is None else tuple(class_names)
        return replace(self, class_names=names)

    def class_name(self, label: int) -> str:
        """The name of a class, its number where it has none."""
        names = self.class_names or ()
        return str(names[label]) if 0 <= label < len(names) else str(label)

    def _grid(self, values):
        shape = (*values[0].shape[:-1], len(self.layers), len(self.normalizers))
        grid = np.full(shape, np.nan)
        for i, (layer, columns) in enumerate(zip(self.layers, values, strict=True)):
            chosen = [self.normalizers.index(name) for name in layer.pool]
            grid[..., i, chosen] = columns
        return grid

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row for each sample, layer and normalizer.

        Raises:
            RuntimeError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            text = "Ratios.to_pandas needs pandas: pip install pandas"
            raise RuntimeError(text) from error
        header, rows = self._table()
        table = pandas.DataFrame(rows, columns=header)
        fixed = [name for name in header if " " not in name]
        table = table.melt(fixed, var_name="column", value_name="ratio")
        parts = table.pop("column").str.rsplit(" ", n=1, expand=True)
        table.insert(len(fixed), "layer", parts[0])
        table.insert(len(fixed) + 1, "normalizer", parts[1])
        return table

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes a table: a row a sample, or a class if there are no samples, and a
        column `layer normalizer` for each ratio."""
        path = Path(path)
        header, rows = self._table()
        with files.staged(path, path.name) as staged:
            with staged.path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                writer.writerows(rows)
            staged.publish()

    def _table(self):
        """The names of columns, and an iterable of rows."""
        columns = [f"{one.path} {name}" for one in self.layers for name in one.pool]
        if self.samples is None:
            values = np.concatenate(self.class_means, axis=1)
            lead: dict[str, Any] = {"class": self.classes, "count": self.counts}
        else:
            same = [s for s in self.samples if len(s) == self.count]
            check(len(same) == len(self), "samples", "a row a sample in every layer", 0)
            values = np.concatenate(self.samples, axis=1)
            lead = {"sample": np.arange(self.count)}
            parts = {"label": self.labels, "predicted": self.predicted}
            lead |= {k: v for k, v in parts.items() if v is not None}
        rows = (
            [*(int(v) for v in left), *(round(float(v), 6) for v in row)]
            for *left, row in zip(*lead.values(), values, strict=True)
        )
        return [*lead, *columns], rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an `.npz` file, whole or not at all; samples that take more than 64
        MiB as float16."""
        path = Path(path)
        with files.staged(path, path.name) as staged:
            with staged.path.open("wb") as file:
                np.savez_compressed(file, **arrays_of(self))  # type: ignore[arg-type]
            staged.publish()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Ratios":
        """What `save` wrote.

        Raises:
            ValueError: The file is no such one, or broken.
        """
        with opened(path) as arrays:
            return from_arrays(arrays)


_FIELDS = ("means", "variances", "class_means", "class_variances")


def arrays_of(ratios: Ratios) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    facts = {
        "layers": [layer._asdict() for layer in ratios.layers],
        "count": ratios.count,
        "class_names": ratios.class_names,
    }
    arrays = {
        "facts": np.array(json.dumps(facts)),
        "classes": ratios.classes,
        "counts": ratios.counts,
    }
    for name in _FIELDS:
        arrays[name] = np.concatenate(getattr(ratios, name), axis=-1)
    for name in ("labels", "predicted"):
        if getattr(ratios, name) is not None:
            arrays[name] = getattr(ratios, name)
    own = [i for i, layer in enumerate(ratios.layers) if not layer.constant]
    if ratios.samples is not None:
        size = 4 * sum(ratios.samples[i].size for i in own)
        dtype = "float16" if size > LARGE else "float32"
        for i in own:
            arrays[f"samples_{i}"] = ratios.samples[i].astype(dtype)
        arrays["with_samples"] = np.array(True)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Ratios:
    """What `arrays_of` made arrays of."""
    facts = json.loads(str(arrays["facts"]))
    layers = tuple(
        Layer(one["path"], tuple(one["pool"]), tuple(one["size"]), one["constant"])
        for one in facts["layers"]
    )
    ends = np.cumsum([len(layer.pool) for layer in layers])[:-1]
    parts = {f: tuple(np.split(arrays[f], ends, axis=-1)) for f in _FIELDS}
    samples = None
    if "with_samples" in arrays:
        samples = tuple(
            np.broadcast_to(mean.astype("float32"), (facts["count"], len(mean)))
            if layer.constant
            else arrays[f"samples_{i}"].astype("float32")
            for i, (layer, mean) in enumerate(zip(layers, parts["means"], strict=True))
        )
    names = facts["class_names"]
    return Ratios(
        layers=layers,
        count=facts["count"],
        classes=arrays["classes"],
        counts=arrays["counts"],
        samples=samples,
        labels=arrays.get("labels"),
        predicted=arrays.get("predicted"),
        class_names=None if names is None else tuple(names),
        **parts,
    )
