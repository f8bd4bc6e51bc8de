"""Figures of a network as it is: layers, classes, spread, correctness."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_en.analysis import measures, style
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.style import styled
from keras_en.arguments import check

# Names of layers that fit below an axis, and of classes.
_NAMED, _CLASSES = 60, 30


@styled
def plot_layers(sets: Mapping[str, Ratios]) -> Any:
    """The mean ratios of every layer, with the standard deviation over samples as a
    band: a panel a data set or network (Fig. 4).

    >>> from keras_en.analysis.running import Layer
    >>> layers = [Layer("one", ("layer", "batch")), Layer("two", ("layer", "batch"))]
    >>> values = [np.array([[0.1, 0.9]]), np.array([[0.4, 0.6]])]
    >>> figure = plot_layers({"digits": Ratios.of(layers, values)})
    >>> [axis.get_title(loc="left") for axis in figure.axes]
    ['digits: 1 sample, means .10 to .90']

    Args:
        sets: From a title to `Ratios`; one panel below the other, with one scale.

    Returns:
        `matplotlib.figure.Figure`, as all functions here: `figure.savefig(path)`.
    """
    check(sets, "sets", "one Ratios at least", sets)
    heights = [1.5 + _names_height(ratios) for ratios in sets.values()]
    figure = style.new_figure(0.7 + sum(heights))
    panels = figure.subplots(len(sets), 1, sharey=True, squeeze=False)[:, 0]
    bands = [r.mean() + s * r.deviation() for r in sets.values() for s in (-1, 1)]
    limits = style.range_of(np.concatenate([band.ravel() for band in bands]))
    names: dict[str, None] = {}
    for axis, (title, ratios) in zip(panels, sets.items(), strict=True):
        _draw_layers(axis, ratios)
        low, high = max(limits[0], -0.02), min(limits[1], 1.02)
        # Above the lines is room for the sizes.
        axis.set_ylim(low, high + 0.12 * (high - low))
        count = f"{ratios.count:,} sample{'s' * (ratios.count != 1)}"
        text = style.shortened(title, 60)
        text = f"{text}: {count}, means {style.says_range(ratios.mean())}"
        axis.set_title(text, loc="left")
        axis.set_ylabel("important ratio")
        names.update(dict.fromkeys(ratios.normalizers))
    style.legend(figure, list(names))
    return figure


def _draw_layers(axis, ratios):
    x, mean, deviation = np.arange(len(ratios)), ratios.mean(), ratios.deviation()
    for k, name in enumerate(ratios.normalizers):
        color = style.COLORS[name]
        look = {"color": color, "linestyle": style.LINES[name]}
        axis.plot(x, mean[:, k], marker=style.MARKERS[name], **look)
        low, high = mean[:, k] - deviation[:, k], mean[:, k] + deviation[:, k]
        axis.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    _layer_axis(axis, ratios)
    _draw_sizes(axis, ratios)


def _layer_names(ratios):
    return [style.shortened(name, 24) for name in measures.short_names(ratios)]


def _names_height(ratios):
    """What the names below an axis take, in inches."""
    if len(ratios) > _NAMED:
        return 0.2
    return (0.055 if len(ratios) <= 30 else 0.04) * max(map(len, _layer_names(ratios)))


def _layer_axis(axis, ratios):
    """Names of layers below, where they fit, otherwise their numbers."""
    count = len(ratios)
    axis.set_xlim(-0.6, count - 0.4)
    if count <= _NAMED:
        size = 7 if count <= 30 else 5
        names = _layer_names(ratios)
        axis.set_xticks(range(count), names, rotation=90, fontsize=size)
    else:
        axis.set_xlabel("layer, from input to output")


def _draw_sizes(axis, ratios):
    """The resolution of each block, along the top."""
    sizes = [layer.size for layer in ratios.layers]
    starts = [i for i, size in enumerate(sizes) if not i or size != sizes[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(sizes)], strict=True):
        if start:
            axis.axvline(start - 0.5, color=style.INK, linewidth=0.4, alpha=0.5)
        text = "\u00d7".join("?" if n is None else str(n) for n in sizes[start])
        # What is wider than its block would lie over the next.
        if (end - start) * 60 >= len(sizes) * len(text):
            place = {"ha": "center", "va": "top", "fontsize": 6, "alpha": 0.8}
            transform = axis.get_xaxis_transform()
            middle = (start + end - 1) / 2
            axis.text(middle, 0.99, text, transform=transform, **place)


@styled
def plot_classes(ratios: Ratios) -> Any:
    """How far the mean of each class is from that of its layer: a panel a normalizer.

    White is no difference; the largest ends the scale, .01 at least, so that a network
    that treats all alike looks like it. Of many classes those that differ most are
    drawn.

    >>> from keras_en.analysis.running import Layer
    >>> layer, values = Layer("one", ("layer", "batch")), np.array([[0.2, 0.8]] * 2)
    >>> figure = plot_classes(Ratios.of([layer], [values], [0, 1]))
    >>> figure.axes[0].get_title()
    'layer: no difference'
    """
    means = ratios.by_class()
    center = np.average(means, axis=0, weights=ratios.counts)
    difference = means - center
    chosen = _most_different(difference)
    limit = max(0.01, np.nanmax(np.abs(difference), initial=0.0))
    count, layers = len(chosen), len(ratios)
    names = [style.shortened(ratios.class_name(ratios.classes[c])) for c in chosen]
    rows = max(0.8, max(0.14, 0.3 - 0.004 * layers) * layers)
    height = 1.5 + 0.07 * max(map(len, names)) + rows
    figure = style.new_figure(height)
    panels = figure.subplots(1, len(ratios.normalizers), sharey=True, squeeze=False)[0]
    for k, (axis, name) in enumerate(zip(panels, ratios.normalizers, strict=True)):
        panel = difference[chosen, :, k].T
        image = axis.imshow(panel, vmin=-limit, vmax=limit, cmap="PuOr", aspect="auto")
        axis.set_title(f"{name}: {style.says_difference(panel)}")
        size = 7 if count <= 12 else 5
        axis.set_xticks(range(count), names, rotation=90, fontsize=size)
    size = 7 if layers <= 30 else 5
    panels[0].set_yticks(range(layers), _layer_names(ratios), fontsize=size)
    panels[0].set_ylabel("layer, from input to output")
    bar = figure.colorbar(image, ax=list(panels), location="bottom", aspect=50)
    shown = "" if count == len(means) else f" ({count} of {len(means):,} classes)"
    bar.set_ticks(limit * np.array([-1, -0.5, 0, 0.5, 1]), labels=None)
    bar.ax.set_xticklabels([style.text_of(v, sign=True) for v in bar.get_ticks()])
    bar.set_label(f"mean of the class minus mean of all{shown}")
    return figure


def _most_different(difference):
    """Numbers of the classes to draw, in their order."""
    amount = np.nansum(difference**2, axis=(1, 2))
    chosen = np.argsort(-amount, kind="stable")[:_CLASSES]
    return np.sort(chosen)


@styled
def plot_spread(ratios: Ratios) -> Any:
    """The spread of each layer between the means of classes and inside them: does the
    layer choose by image, by class, or has it become static?

    >>> from keras_en.analysis.running import Layer
    >>> layer = Layer("one", ("layer", "batch"))
    >>> values = np.array([[0.2, 0.8], [0.4, 0.6]])
    >>> figure = plot_spread(Ratios.of([layer], [values], [0, 1]))
    >>> figure.axes[0].get_title(loc="left")
    'within classes .00 to .00, between classes .14 to .14'
    """
    spread = measures.spread(ratios)
    figure = style.new_figure(1.8 + _names_height(ratios))
    axis = figure.subplots()
    x = np.arange(len(ratios))
    if len(ratios.classes):
        axis.bar(x - 0.2, spread.within, 0.38, color="#56B4E9", label="within classes")
        between = {"color": "#D55E00", "label": "between classes", "hatch": "///"}
        axis.bar(x + 0.2, spread.between, 0.38, edgecolor="white", **between)
        texts = (style.says_range(spread.within), style.says_range(spread.between))
        title = "within classes {}, between classes {}".format(*texts)
    else:
        axis.bar(x, spread.total, 0.6, color="#56B4E9", label="between images")
        title = f"between images {style.says_range(spread.total)}"
    axis.set_title(title, loc="left")
    axis.set_ylim(0, max(0.01, 1.1 * np.nanmax(spread.total)))
    axis.set_ylabel("standard deviation")
    _layer_axis(axis, ratios)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def plot_correctness(ratios: Ratios) -> Any:
    """The mean ratio of images that the network gets wrong minus that of those it gets
    right, with the 95 % interval of a normal distribution, whose variance is that of
    both: often a few images are wrong, even one.

    >>> from keras_en.analysis.running import Layer
    >>> layer, values = Layer("one", ("layer", "batch")), np.array([[0.2, 0.8]] * 4)
    >>> ratios = Ratios.of([layer], [values], [0, 0, 1, 1], [0, 1, 1, 1])
    >>> figure = plot_correctness(ratios)
    >>> figure.axes[0].get_title(loc="left")
    '1 wrong against 3 right: no difference'

    Raises:
        ValueError: There are no labels, predictions or ratios of samples, or none, or
            all, are right.
    """
    right = np.zeros(0, bool)
    if ratios.labels is not None and ratios.predicted is not None:
        right = ratios.labels == ratios.predicted
    allowed = "labels and predictions of each sample, wrong ones and right ones"
    both = right.any() and not right.all()
    check(both, "ratios", allowed, int(right.sum()), "right")
    differences, errors = np.full((2, len(ratios), len(ratios.normalizers)), np.nan)
    for i, layer in enumerate(ratios.layers):
        values = ratios.by_sample(layer.path).astype("float64")
        if len(values) == len(right):
            wrong, others = values[~right], values[right]
            differences[i] = wrong.mean(0) - others.mean(0)
            sums = len(wrong) * wrong.var(0) + len(others) * others.var(0)
            errors[i] = _error(sums, len(wrong), len(others))
    title = f"{int((~right).sum()):,} wrong against {int(right.sum()):,} right"
    return _draw_differences(ratios, differences, errors, title)


@styled
def plot_difference(ratios: Ratios, other: Ratios) -> Any:
    """The mean ratio of other data, or of another network, minus that of these, in
    layers of the same name, with the 95 % interval of a normal distribution.

    >>> from keras_en.analysis.running import Layer
    >>> layer = Layer("one", ("layer", "batch"))
    >>> first = Ratios.of([layer], [np.array([[0.2, 0.8]] * 3)])
    >>> second = Ratios.of([layer], [np.array([[0.5, 0.5]] * 2)])
    >>> plot_difference(first, second).axes[0].get_title(loc="left")
    '2 samples against 3: -.30 to +.30'

    Raises:
        ValueError: No layer of one name is in both, or no normalizer.
    """
    pairs = common_layers(ratios, other)
    check(pairs, "other", "of layers with the same names", measures.short_names(other))
    differences, errors = np.full((2, len(ratios), len(ratios.normalizers)), np.nan)
    for k, name in enumerate(ratios.normalizers):
        if name not in other.normalizers:
            continue
        column = other.normalizers.index(name)
        for i, j in pairs:
            differences[i, k] = other.mean()[j, column] - ratios.mean()[i, k]
            sums = ratios.count * ratios.deviation()[i, k] ** 2
            sums += other.count * other.deviation()[j, column] ** 2
            errors[i, k] = _error(sums, ratios.count, other.count)
    plural = "s" * (other.count != 1)
    title = f"{other.count:,} sample{plural} against {ratios.count:,}"
    return _draw_differences(ratios, differences, errors, title)


def common_layers(ratios: Ratios, other: Ratios) -> list[tuple[int, int]]:
    """Numbers of the layers, in both, that have the same short name and a normalizer in
    common."""
    places = {name: j for j, name in enumerate(measures.short_names(other))}
    pairs = [
        (i, places[name])
        for i, name in enumerate(measures.short_names(ratios))
        if name in places
    ]
    return [
        (i, j)
        for i, j in pairs
        if set(ratios.layers[i].pool) & set(other.layers[j].pool)
    ]


def _error(sums, first, second):
    """The standard error of the difference of two means of so many values, of one
    variance, by the sum of their squared deviations."""
    # Two values say nothing about it.
    degrees = first + second - 2 or np.nan
    return np.sqrt(sums / degrees * (1 / first + 1 / second))


def _draw_differences(ratios, differences, errors, title):
    """Points `(L, K)` with their intervals, beside each other in a layer."""
    figure = style.new_figure(1.8 + _names_height(ratios))
    axis = figure.subplots()
    width = 0.5 / len(ratios.normalizers)
    for k, name in enumerate(ratios.normalizers):
        x = np.arange(len(ratios)) + (k - (len(ratios.normalizers) - 1) / 2) * width
        look = {"color": style.COLORS[name], "fmt": style.MARKERS[name]}
        axis.errorbar(x, differences[:, k], 1.96 * errors[:, k], **look)
    axis.axhline(0, color=style.INK, linewidth=0.5)
    axis.set_ylim(style.range_of([*axis.get_ylim(), 0]))
    axis.set_title(f"{title}: {style.says_difference(differences)}", loc="left")
    axis.set_ylabel("difference of ratios")
    _layer_axis(axis, ratios)
    style.legend(figure, ratios.normalizers, lines=False)
    return figure
