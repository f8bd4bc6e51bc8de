"""Layers replaced by what they have become: fewer operations, the same outputs."""

import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.analysis.batches import source
from keras_en.analysis.collect import collect_ratios, exemplar_layers
from keras_en.analysis.traced import traced
from keras_en.arguments import check, number
from keras_en.keras_private import layers_of
from keras_en.layers import ExemplarNormalization, StaticNormalization
from keras_en.layers.recording import recording
from keras_en.surgery import replace_normalization

# Runs of each network, in turn, whose median is compared.
_RUNS = 5


class Simplification(NamedTuple):
    """What `simplify` did.

    >>> print(Simplification({"one": "batch"}, {"two": "changes outputs by 0.2"}, 1e-4,
    ...                      0.97, 0.97, 6000, 4000, 0.02, 0.01))
    1 layers replaced, 0.5 of the time
      outputs change by 0.0001, accuracy 97.00 % to 97.00 %
      6,000 to 4,000 parameters
      one -> batch
      two stays: changes outputs by 0.2

    - `replaced`: from path to what the layer has become: "batch", or the ratios of a
      mixture.
    - `refused`: from path to the reason, of layers that nearly have.
    - `change`: the largest difference of an output, over all data.
    - `accuracy_before`, `accuracy_after`: share of right classes, or `None`.
    - `parameters_before`, `parameters_after`.
    - `seconds_before`, `seconds_after`: medians for one batch of the data, in turn.
    """

    replaced: dict[str, str]
    refused: dict[str, str]
    change: float
    accuracy_before: float | None
    accuracy_after: float | None
    parameters_before: int
    parameters_after: int
    seconds_before: float
    seconds_after: float

    def __str__(self) -> str:
        share = self.seconds_after / self.seconds_before
        change = f"  outputs change by {self.change:.1g}"
        if self.accuracy_before is not None and self.accuracy_after is not None:
            before, after = 100 * self.accuracy_before, 100 * self.accuracy_after
            change += f", accuracy {before:.2f} % to {after:.2f} %"
        lines = [
            f"{len(self.replaced)} layers replaced, {share:.2g} of the time",
            change,
            f"  {self.parameters_before:,} to {self.parameters_after:,} parameters",
        ]
        lines += [f"  {path} -> {name}" for path, name in self.replaced.items()]
        lines += [f"  {path} stays: {why}" for path, why in self.refused.items()]
        return "\n".join(lines)


def simplify(
    model: keras.Model,
    data: Any,
    threshold: float = 0.01,
    labels: Any = None,
    max_change: float = 1e-3,
    batch_size: int = 128,
) -> tuple[keras.Model, Simplification]:
    """A copy of `model` in which layers that treat all samples alike are what they have
    become, without a head for ratios.

    - Where the ratio of "batch" is 1, within `threshold`, for every sample, Eq. 3 is
      `keras.layers.BatchNormalization` with that row of gamma and the sum of all rows
      of beta. An export folds it into the convolution before it.
    - Where every ratio is the same, within `threshold`, for every sample, Eq. 3 is
      `keras_en.layers.StaticNormalization`, of the mean ratios. (A mixture of
      statistics, as of `SwitchableNormalization`, would be something else.)

    `model` is left as it was.

    >>> from keras_en import ExemplarNormalization
    >>> norm = ExemplarNormalization(initial_ratios={"batch": 1.0}, name="norm")
    >>> model = keras.Sequential([keras.Input((4, 4, 3)), norm], name="net")
    >>> x = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32")
    >>> new, report = simplify(model, x)
    >>> report.replaced, type(new.layers[0]).__name__, report.change < 1e-6
    ({'net/norm': 'batch'}, 'BatchNormalization', True)

    Args:
        model: Built `keras.Model` that `replace_normalization` can copy.
        data, labels, batch_size: See `collect_ratios`; iterated over several times.
        threshold: How far a ratio may be, of any sample, from 1, or from the mean.
        max_change: By how much an output may change, of any sample: the layers whose
            ratios are least far away are replaced first, as many as keep to it.

    Returns:
        The new model, not compiled, or `model` where nothing is replaced; and a
        `Simplification`.

    Raises:
        ValueError, TypeError: See `collect_ratios` and `replace_normalization`;
            `threshold` is not in [0, 0.5], `max_change` is negative.
    """
    threshold = number("threshold", threshold, "in [0, 0.5]")
    check(0 <= threshold <= 0.5, "threshold", "in [0, 0.5]", threshold)
    max_change = number("max_change", max_change, "at least 0")
    check(max_change >= 0, "max_change", "at least 0", max_change)
    once = hasattr(data, "__next__")
    check(not once, "data", "what can be iterated over again, no iterator", data)
    x = next(iter(source(data, labels, batch_size).batches))[0]
    layers, idle = _running(model, x)
    ratios = collect_ratios(
        model, data, labels, layers=[*layers], batch_size=batch_size, verbose=0
    )
    chosen = _chosen(layers, ratios, threshold)
    before = _Outputs.of(model, data, labels, batch_size)
    tries: dict[int, tuple] = {}

    def tried(count):
        """The model with so many layers replaced, and its outputs."""
        if count not in tries:
            new = _replaced(model, dict(list(chosen.items())[:count]))
            tries[count] = new, _Outputs.of(new, data, labels, batch_size)
        return tries[count]

    # The largest number that keeps to the bound, by halves.
    low, high, refused = 0, len(chosen), dict.fromkeys(idle, "does not run")
    while low < high:
        middle = high if high not in tries else (low + high + 1) // 2
        change = before.change(tried(middle)[1])
        if change <= max_change:
            low = middle
        else:
            high = middle - 1
            refused[list(chosen)[middle - 1]] = f"changes outputs by {change:.1g}"
    new, after = tried(low) if low else (model, before)
    for path in list(chosen)[low:]:
        refused.setdefault(path, "with those before it, changes outputs by too much")
    replaced = {path: str(choice) for path, choice in list(chosen.items())[:low]}
    refused = {path: why for path, why in refused.items() if path not in replaced}
    seconds = _seconds(model, new, x) if low else (1.0, 1.0)
    report = Simplification(
        replaced,
        refused,
        before.change(after),
        before.accuracy,
        after.accuracy,
        model.count_params(),
        new.count_params(),
        *seconds,
    )
    return new, report


def _running(model, x):
    """The layers that the model's call runs, by path, and the paths of the others, as
    of what a `train_step` alone uses; where none runs, all, which is an error later."""
    layers = exemplar_layers(model)
    with recording(layers) as recorded:
        model(x, training=False)
    running = {path: layers[path] for path, calls in recorded.items() if calls}
    return (running, layers.keys() - running) if running else (layers, ())


class _Choice(NamedTuple):
    """What a layer has become: the ratios `(K,)`, `distance` away for some sample."""

    layer: ExemplarNormalization
    shares: np.ndarray
    distance: float

    @property
    def kind(self):
        """What has to be the same for layers that are replaced together."""
        layer = self.layer
        if self.is_batch:
            return ("batch",)
        names = ("momentum", "epsilon", "groups", "synchronized", "trainable")
        policy = keras.saving.serialize_keras_object(layer.dtype_policy)
        values = (getattr(layer, name) for name in names)
        return (layer.pool, *values, layer.dtype_policy.name, str(policy))

    @property
    def is_batch(self):
        return dict(zip(self.layer.pool, self.shares, strict=True)).get("batch") == 1

    def __str__(self):
        if self.is_batch:
            return "batch"
        pairs = zip(self.layer.pool, self.shares, strict=True)
        return ", ".join(f"{name} {share:.3f}" for name, share in pairs)


def _chosen(layers, ratios, threshold):
    """From path to choice, the surest first."""
    choices = {}
    for path, layer in layers.items():
        calls = [p for p in ratios if p == path or _is_call(p, path)]
        values = np.concatenate([ratios[p] for p in calls]).astype("float64")
        shares = values.mean(axis=0)
        shares /= shares.sum()
        batch = np.array([float(name == "batch") for name in layer.pool])
        for target in (batch, shares):
            distance = float(np.abs(values - target).max())
            if target.sum() and distance <= threshold:
                choices[path] = _Choice(layer, target, distance)
                break
    order = sorted(choices, key=lambda path: choices[path].distance)
    return {path: choices[path] for path in order}


def _is_call(path, of):
    head, _, number = path.rpartition("/")
    return head == of and number.isdecimal()


def _replaced(model, choices: Mapping[str, _Choice]):
    """The model with these layers replaced."""
    new, places = model, _places(model)
    wanted = {places[id(choice.layer)]: choice for choice in choices.values()}
    for kind in dict.fromkeys(choice.kind for choice in wanted.values()):
        alike = {n: c for n, c in wanted.items() if c.kind == kind}
        at, first = _places(new), next(iter(alike.values()))
        new = replace_normalization(
            new,
            to="bn" if first.is_batch else functools.partial(_static, first.layer),
            select=lambda layer, at=at, alike=alike: at[id(layer)] in alike,
        )
    layers = layers_of(new)
    for place, choice in wanted.items():
        _assign(layers[place], choice)
    return new


def _static(old, axis, name):
    """A layer for the mixture of `old`."""
    return StaticNormalization(
        axis=axis,
        momentum=old.momentum,
        epsilon=old.epsilon,
        synchronized=old.synchronized,
        normalizers=old.pool,
        groups=old.groups,
        trainable=old.trainable,
        dtype=old.dtype_policy,
        name=name,
    )


def _places(model):
    """From the id of each layer to its place among all, which surgery keeps."""
    return {id(layer): place for place, layer in enumerate(layers_of(model))}


def _assign(new, choice):
    """The weights of Eq. 3 with these ratios: every row of gamma times its ratio, and
    the sum of the rows of beta, which it adds without ratios."""
    old, shares = choice.layer, choice.shares[:, None]
    gamma = np.ones((1, 1)) if old.gamma is None else _rows(old.gamma)
    rows = np.broadcast_to(gamma, (len(shares), gamma.shape[1])) * shares
    if choice.is_batch:
        rows = rows.sum(axis=0)
    if new.gamma is not None:
        new.gamma.assign(np.broadcast_to(rows, tuple(new.gamma.shape)))
    if new.beta is not None:
        beta = 0.0 if old.beta is None else _rows(old.beta).sum(axis=0)
        new.beta.assign(np.broadcast_to(beta, tuple(new.beta.shape)))


def _rows(weight):
    return np.atleast_2d(keras.ops.convert_to_numpy(weight)).astype("float64")


class _Outputs(NamedTuple):
    """What a network says of all data."""

    values: list
    accuracy: float | None

    @classmethod
    def of(cls, model, data, labels, batch_size):
        run, values, right = traced(model, {}), [], []
        for x, targets in source(data, labels, batch_size).batches:
            outputs = run(x)
            values.append(keras.tree.flatten(outputs.outputs))
            if targets is not None and outputs.predicted is not None:
                right.append(outputs.predicted == targets)
        accuracy = float(np.concatenate(right).mean()) if right else None
        return cls(values, accuracy)

    def change(self, other):
        """The largest difference of an output."""
        pairs = zip(self.values, other.values, strict=True)
        return max(
            float(np.abs(a.astype("float64") - b).max())
            for one, two in pairs
            for a, b in zip(one, two, strict=True)
        )


def _seconds(first, second, x):
    """Medians of a call of both, in turn."""
    runs = [traced(model, {}) for model in (first, second)]
    times: list[list[float]] = [[], []]
    for _ in range(_RUNS + 1):
        for run, spent in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(x)
            spent.append(time.perf_counter() - start)
    # The first one traces.
    return tuple(float(np.median(spent[1:])) for spent in times)
