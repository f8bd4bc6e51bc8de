"""Figures of how ratios move: over epochs, and with the strength of a corruption."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_en.analysis import measures, style
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.recorder import RatioHistory
from keras_en.analysis.style import styled
from keras_en.arguments import check, refused


@styled
def plot_epochs(history: RatioHistory) -> Any:
    """The mean ratios of every layer over epochs, one panel per layer (Fig. 5).

    >>> from keras_en.analysis.running import Layer
    >>> layer = Layer("norm", ("layer", "batch"))
    >>> start, end = np.array([[0.5, 0.5]]), np.array([[0.1, 0.9]])
    >>> history = RatioHistory({0: Ratios.of([layer], [start]),
    ...                         30: Ratios.of([layer], [end])})
    >>> plot_epochs(history).axes[0].get_title()
    'norm: .10 to .90'
    """
    return _small_multiples(history.epochs, history.mean(), history.last, "epoch")


@styled
def plot_corruption(by_strength: Mapping[float, Ratios]) -> Any:
    """How far the mean ratios of every layer move with the strength of a corruption of
    the images, from those of the weakest: one panel per layer.

    >>> from keras_en.analysis.running import Layer
    >>> layer = Layer("norm", ("layer", "batch"))
    >>> clean, noisy = np.array([[0.5, 0.5]]), np.array([[0.1, 0.9]])
    >>> by_strength = {0.0: Ratios.of([layer], [clean]),
    ...                0.4: Ratios.of([layer], [noisy])}
    >>> plot_corruption(by_strength).axes[0].get_title()
    'norm: -.40 to +.40'

    Args:
        by_strength: From strength to the ratios of the same images.
    """
    check(by_strength, "by_strength", "the Ratios of one strength at least", None)
    strengths = sorted(by_strength)
    means = np.array([by_strength[strength].mean() for strength in strengths])
    ratios = by_strength[strengths[0]]
    return _small_multiples(strengths, means - means[0], ratios, "strength", True)


def _small_multiples(x, means, ratios, label, differences=False):
    """Lines of normalizers, one panel per layer, all with one scale."""
    says = style.says_difference if differences else style.says_range
    count = len(ratios)
    columns = min(count, 3 if count <= 12 else 6)
    rows = -(-count // columns)
    figure = style.new_figure(0.7 + rows * (1.3 if columns <= 3 else 0.95))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    names = measures.short_names(ratios)
    size = 8 if columns <= 3 else 5.5
    for i, axis in enumerate(panels.ravel()):
        if i >= count:
            axis.axis("off")
            continue
        for k, name in enumerate(ratios.normalizers):
            look = {"color": style.COLORS[name], "linestyle": style.LINES[name]}
            if len(x) <= 12:
                look["marker"] = style.MARKERS[name]
            axis.plot(x, means[:, i, k], **look)
        text = f"{style.shortened(names[i], 22)}: {says(means[:, i])}"
        axis.set_title(text, fontsize=size)
        if i + columns >= count:
            axis.set_xlabel(label)
            axis.tick_params(labelbottom=True)
    panels[0, 0].set_ylim(style.range_of(means))
    for axis in panels[:, 0]:
        axis.set_ylabel("change" if differences else "ratio")
    style.legend(figure, ratios.normalizers)
    return figure


@styled
def plot_dynamics(
    history: RatioHistory,
    layers: Sequence[str] | None = None,
    classes: Sequence[int] | None = None,
) -> Any:
    """The mean ratios of some classes over epochs: one row per layer, a column a
    normalizer (Fig. 1a and 6).

    >>> from keras_en.analysis.running import Layer
    >>> layer, values = Layer("norm", ("layer", "batch")), np.array([[0.2, 0.8]] * 2)
    >>> ratios = Ratios.of([layer], [values], labels=[0, 1])
    >>> figure = plot_dynamics(RatioHistory({0: ratios, 1: ratios}))
    >>> len(figure.axes), figure.axes[1].get_title()
    (2, 'norm, batch: .80 to .80')

    Args:
        history: `RatioHistory`, with labels.
        layers: Paths; `None`: six at most, from the first to the last.
        classes: Labels; `None`: the four whose means differ most in the end.
    """
    last, means = history.last, history.by_class()
    chosen = _spaced(len(last), 6)
    if layers is not None:
        chosen = [_index(last.paths, path, "layers") for path in layers]
    if classes is None:
        rows = far_apart(means[-1], 4)
    else:
        rows = [_index(last.classes.tolist(), c, "classes") for c in classes]
    names, normalizers = measures.short_names(last), last.normalizers
    figure = style.new_figure(0.8 + 1.25 * len(chosen))
    shape = (len(chosen), len(normalizers))
    panels = figure.subplots(*shape, sharex=True, squeeze=False)
    for axes, layer in zip(panels, chosen, strict=True):
        for k, (axis, name) in enumerate(zip(axes, normalizers, strict=True)):
            values = means[:, rows, layer, k]
            for i, row in enumerate(values.T):
                look = {"color": style.CLASS_COLORS[i % len(style.CLASS_COLORS)]}
                if len(row) <= 12:
                    look["marker"] = style.CLASS_MARKERS[i % len(style.CLASS_MARKERS)]
                axis.plot(history.epochs, row, **look)
            text = f"{style.shortened(names[layer], 20)}, {name}: "
            axis.set_title(text + style.says_range(values), fontsize=7)
            axis.set_ylim(style.range_of(values))
    for axis in panels[-1]:
        axis.set_xlabel("epoch")
    labels = [last.class_name(last.classes[row]) for row in rows]
    style.class_legend(figure, labels, lines=True)
    return figure


def _spaced(count, limit):
    """`limit` numbers below `count` from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


def _index(names, name, argument):
    if name not in names:
        raise refused(argument, f"among {', '.join(map(str, names))}", name)
    return list(names).index(name)


def far_apart(means: np.ndarray, limit: int) -> list[int]:
    """Rows of classes, each far from those that were chosen before."""
    flat = np.nan_to_num(means.reshape(len(means), -1))
    distance = ((flat - flat.mean(0)) ** 2).sum(1)
    rows = [int(distance.argmax())]
    while len(rows) < min(limit, len(flat)):
        nearest = ((flat[:, None] - flat[rows]) ** 2).sum(-1).min(1)
        nearest[rows] = -1
        rows.append(int(nearest.argmax()))
    return sorted(rows)
