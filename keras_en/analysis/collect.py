"""The important ratios of every sample in every layer."""

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_en.analysis.batches import source
from keras_en.analysis.ratios import LARGE, Ratios
from keras_en.analysis.running import NO_CLASS, Layer, Running
from keras_en.analysis.traced import Outputs, traced
from keras_en.arguments import check, integer, refused
from keras_en.keras_private import layers_of
from keras_en.layers import ExemplarNormalization, SwitchableNormalization
from keras_en.text import unique

_NO_LAYERS = (
    "a model with an ExemplarNormalization or SwitchableNormalization layer: "
    "keras_en.replace_normalization puts them into a network"
)


def exemplar_layers(model: keras.layers.Layer) -> dict[str, ExemplarNormalization]:
    """Every `ExemplarNormalization` of `model`, nested ones too, by its path.

    >>> layers = [keras.Input((8, 3)), ExemplarNormalization(name="norm")]
    >>> list(exemplar_layers(keras.Sequential(layers, name="model")))
    ['model/norm']

    Args:
        model: A built Keras model or layer of any kind.

    Returns:
        Dictionary from `layer.path` to layer, in the order of the model's layers. A
        path that several layers have is numbered: `path`, `path_1`, ...
    """
    return _layers(model, ExemplarNormalization)


def _layers(model, kind):
    by_path: dict[str, Any] = {}
    for layer in layers_of(model):
        if isinstance(layer, kind):
            by_path[unique(layer.path, by_path)] = layer
    return by_path


def collect_ratios(
    model: keras.Model,
    data: Any,
    labels: Any = None,
    layers: Sequence[str] | None = None,
    samples: bool = True,
    batch_size: int = 128,
    class_names: Sequence[str] | None = None,
    verbose: str | int = "auto",
) -> Ratios:
    """The ratios `lambda[n, k]` of every sample in every layer, in inference mode.

    >>> norm = ExemplarNormalization(normalizers=("layer", "batch"), name="norm")
    >>> model = keras.Sequential([keras.Input((8, 3)), norm], name="model")
    >>> ratios = collect_ratios(model, np.zeros((2, 8, 3)))
    >>> ratios["model/norm"].tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    >>> ratios.mean().tolist()
    [[0.5, 0.5]]

    One pass over the data, each batch run once, as `predict` does; the model is not
    changed. Means and variances by layer and class are added up on the way, so that
    with `samples=False` memory does not grow with the data. Ratios of samples beyond 64
    MiB go to a temporary file, as float16.

    A layer that runs more than once in a call of the model, as one that is shared, in a
    `TimeDistributed` or in the cell of an RNN, has an entry a call, in the order in
    which they run: `path`, `path/1`, `path/2`, ... Of an RNN these are its steps. A
    `SwitchableNormalization` has two, `path/mean` and `path/variance`, the same for all
    samples.

    Args:
        model: A built Keras model of any kind.
        data: Array `(N, ...)`, a list or dictionary of them for several inputs, a
            `tf.data.Dataset`, a `PyDataset`, a generator or another iterable of
            batches `x` or `(x, y)`.
        labels: `(N,)` integers, or one-hot: the class of each sample. `None`: `y` of
            the batches, where these are classes.
        layers: Paths, or their last parts, of the layers to look at; `None`: all.
        samples: Whether to return the ratios of single samples, too.
        batch_size: Samples a step, of arrays.
        class_names: Names of the classes, by label.
        verbose: Whether to show progress; "auto": in a terminal.

    Returns:
        `Ratios`, a mapping from layer path to NumPy array `(N, K)`, in the order in
        which the model's layers are listed. Where the model calls the layer with more
        rows than samples, there are as many rows, and no classes.

    Raises:
        ValueError: `model` is not built; no layer of it has ratios; or one does not
            run, or only in a function or a loop that the backend traces; `data` is
            empty; there is not a label of each sample; ratios are not finite, with
            layer and sample.
        TypeError: `data` is nothing of the above.
    """
    collector = Collector(model, layers)
    return collector.collect(data, labels, samples, batch_size, class_names, verbose)


class Collector:
    """`collect_ratios` of one model, several times: it is traced once."""

    def __init__(self, model: keras.Model, layers: Sequence[str] | None = None):
        every = {
            **_layers(model, ExemplarNormalization),
            **_layers(model, SwitchableNormalization),
        }
        check(every, "model", _NO_LAYERS, model)
        check(model.built, "model", "a Keras model that is built", model)
        self.model = model
        self.layers = every if layers is None else _chosen(every, layers)
        exemplar = {p: x for p, x in self.layers.items() if not is_switchable(x)}
        self._run = traced(model, exemplar)

    def collect(
        self,
        data: Any,
        labels: Any = None,
        samples: bool = True,
        batch_size: int = 128,
        class_names: Sequence[str] | None = None,
        verbose: str | int = "auto",
    ) -> Ratios:
        """See `collect_ratios`."""
        batch_size = integer("batch_size", batch_size, minimum=1)
        batches, steps = source(data, labels, batch_size)
        progress = _progress(steps, verbose)
        collected: _Collected | None = None
        with _unrolled(self.model):
            for x, targets in batches:
                outputs = self._run(x)
                if collected is None:
                    entries = _entries(self.layers, outputs)
                    collected = _Collected(entries, self.layers, samples)
                count = keras.tree.flatten(x)[0].shape[0]
                collected.add(outputs, count, targets)
                progress()
        if collected is None:
            raise refused("data", "data with a sample", f"data={data!r}")
        return collected.ratios().named(class_names)


def is_switchable(layer: keras.layers.Layer) -> bool:
    """Whether the ratios of a layer are the same for all samples by construction."""
    return isinstance(layer, SwitchableNormalization)


def _chosen(every, names):
    """The layers that have one of the names, which all have to be there."""
    names = [names] if isinstance(names, str) else list(names)
    chosen = {
        path: layer
        for path, layer in every.items()
        if path in names or path.rpartition("/")[2] in names
    }
    last = {path.rpartition("/")[2] for path in chosen}
    missing = [name for name in names if name not in chosen and name not in last]
    allowed = f"names of layers among {', '.join(every)}"
    check(not missing and names, "layers", allowed, missing or names)
    return chosen


def _entries(every, outputs: Outputs) -> list[Layer]:
    """What there are ratios of: a call of a layer each, two of a switchable one."""
    entries = []
    for path, layer in every.items():
        if is_switchable(layer):
            pool = tuple(layer.pool)
            kinds = layer.ratios()
            entries += [Layer(f"{path}/{k}", pool, (), True) for k in kinds]
            continue
        for i, size in enumerate(outputs.sizes[path]):
            entries.append(Layer(f"{path}/{i}" if i else path, layer.pool, size))
    return entries


class _Collected:
    """What has been added up so far."""

    def __init__(self, entries, layers, keep_samples):
        self.entries = entries
        self.runnings = [Running(len(entry.pool)) for entry in entries]
        self.constants = {
            f"{path}/{kind}": keras.ops.convert_to_numpy(values)
            for path, layer in layers.items()
            if is_switchable(layer)
            for kind, values in layer.ratios().items()
        }
        self.rows = [_Rows() for _ in entries] if keep_samples else None
        self.count = self.size = 0
        self.labels: list | None = []
        self.predicted: list | None = []

    def add(self, outputs, count, targets):
        """The ratios of a batch."""
        targets = self._noted("labels", targets)
        self._noted("predicted", outputs.predicted)
        classes = np.full(count, NO_CLASS) if targets is None else targets
        moving = iter([part for calls in outputs.ratios.values() for part in calls])
        for i, entry in enumerate(self.entries):
            if entry.constant:
                share = self.constants[entry.path]
                values = np.broadcast_to(share, (count, len(share)))
            else:
                values = entry.checked(next(moving), self.count)
            same = len(values) == count
            own = classes if same else np.full(len(values), NO_CLASS)
            self.runnings[i].add(values, own)
            if self.rows is not None and not entry.constant:
                self.rows[i].parts.append(values)
                self.size += values.nbytes
        self.count += count
        if self.size > LARGE:
            for rows in self.rows or []:
                rows.spill()

    def _noted(self, name, values):
        """Appends labels; a batch without any ends them."""
        parts = getattr(self, name)
        if values is None or parts is None:
            setattr(self, name, None)
            return None
        parts.append(np.asarray(values))
        return values

    def ratios(self):
        """`Ratios`; once."""
        samples = None
        if self.rows is not None:
            samples = tuple(
                np.broadcast_to(self.constants[e.path], (self.count, len(e.pool)))
                if e.constant
                else rows.array()
                for e, rows in zip(self.entries, self.rows, strict=True)
            )
        labels, predicted = (
            np.concatenate(parts) if parts else None
            for parts in (self.labels, self.predicted)
        )
        return Ratios.from_runnings(
            self.entries, self.runnings, self.count, samples, labels, predicted
        )


class _Rows:
    """Rows that come in parts: in memory, and on disk after `spill`."""

    def __init__(self):
        self.parts, self.file, self.columns = [], None, 0

    def spill(self):
        if self.file is None:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115
        for part in self.parts:
            self.file.write(part.astype("float16").tobytes())
            self.columns = part.shape[1]
        self.parts = []

    def array(self):
        if self.file is None:
            return np.concatenate(self.parts)
        with self.file:
            self.file.flush()
            flat: np.ndarray = np.memmap(self.file, "float16", "r")
        values = flat.reshape(-1, self.columns)
        return values if not self.parts else np.concatenate([values, *self.parts])


def _progress(steps, verbose):
    """A function to call behind each batch."""
    if verbose == "auto":
        verbose = int(sys.stdout.isatty())
    if not verbose:
        return lambda: None
    bar = keras.utils.Progbar(steps, verbose=verbose)
    return lambda: bar.add(1)


@contextlib.contextmanager
def _unrolled(model):
    """Steps of an RNN run one by one, and none of them to see its shape only."""
    rnns = [
        layer
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.RNN) and exemplar_layers(layer)
    ]
    before = [layer.unroll for layer in rnns]
    try:
        for layer in rnns:
            layer.unroll = True
        yield
    finally:
        for layer, unroll in zip(rnns, before, strict=True):
            layer.unroll = unroll
