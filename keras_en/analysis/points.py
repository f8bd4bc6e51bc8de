"""Figures in which every image is a point, or shown itself."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_en.analysis import measures, style
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.recorder import RatioHistory
from keras_en.analysis.style import styled
from keras_en.arguments import check, check_installed

# Points of a panel, classes with a colour, panels.
_POINTS, _COLORED, _PANELS = 500, 10, 9
# Images of a map, at least.
FEWEST = 4
_HEIGHT = np.sqrt(3) / 2


@styled
def plot_ternary(ratios: Ratios, layers: Sequence[str] | None = None) -> Any:
    """Each image as a point among three normalizers, one panel per layer.

    The nearer to a corner, the larger its ratio. A panel shows the part of the triangle
    where the images are, which the small triangle marks, and says how large it is.

    >>> from keras_en.analysis.running import Layer
    >>> layer = Layer("norm", ("instance", "layer", "batch"))
    >>> figure = plot_ternary(Ratios.of([layer], [np.array([[0.2, 0.3, 0.5]])]))
    >>> figure.axes[0].get_title()
    'norm: window of .05'

    Args:
        ratios: `Ratios`, with samples.
        layers: Paths, of layers with three normalizers; `None`: nine at most.

    Raises:
        ValueError: No layer has three normalizers.
    """
    fitting = [
        layer.path for layer in ratios.layers if len(layer.pool) == 3 == _own(layer)
    ]
    if layers is None:
        step = np.linspace(0, len(fitting) - 1, min(_PANELS, len(fitting)))
        layers = [fitting[i] for i in np.unique(step.round().astype(int))]
    check(layers and set(layers) <= set(fitting), "layers", "of three", layers)
    names = dict(zip(ratios.paths, measures.short_names(ratios), strict=True))
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    figure = style.new_figure(0.6 + rows * 7.0 / 3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in panels[len(layers) :]:
        axis.axis("off")
    labels, classes = _colored(ratios)
    for axis, path in zip(panels, layers, strict=False):
        values = ratios[path].astype("float64")
        window = _draw_ternary(axis, values, labels)
        pool = ratios.layers[ratios.paths.index(path)].pool
        _draw_corners(axis, pool, window, place(values))
        text = style.shortened(names[path], 24)
        axis.set_title(f"{text}: window of {style.text_of(window[2])}")
    if classes:
        style.class_legend(figure, classes, lines=False)
    return figure


def _own(layer):
    return 0 if layer.constant else 3


def place(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane of ratios `(n, 3)`: the corners are left, right and top."""
    return values[:, 1] + values[:, 2] / 2, values[:, 2] * _HEIGHT


def _draw_ternary(axis, values, labels):
    """Draws the points, and returns left, bottom and width of the window."""
    labels = np.zeros(len(values), int) if labels is None else labels
    if len(labels) != len(values):
        labels = np.zeros(len(values), int)
    chosen = measures.subset(len(values), _POINTS, 0)
    x, y = place(values)
    width = max(0.05, 1.15 * max(np.ptp(x), np.ptp(y)))
    left = (x.min() + x.max() - width) / 2
    # There is nothing below the triangle.
    bottom = max((y.min() + y.max() - width) / 2, -0.06 * width)
    _scatter(axis, x[chosen], y[chosen], labels[chosen])
    corner = np.array([[0, 0], [1, 0], [0.5, _HEIGHT], [0, 0]])
    axis.plot(*corner.T, color=style.INK, linewidth=0.8, zorder=1)
    # Lines of equal ratio, so far apart that a window has about four.
    step = 10.0 ** np.floor(np.log10(width / 2))
    step *= next(f for f in (1, 2, 5) if width / (step * f) <= 5)
    grid: dict[str, Any] = {"color": style.INK, "linewidth": 0.3, "alpha": 0.35}
    grid["zorder"] = 1
    for share in np.arange(step, 1, step):
        for k in range(3):
            ends = np.zeros((2, 3))
            ends[:, k], ends[0, k - 1], ends[1, k - 2] = share, 1 - share, 1 - share
            axis.plot(*place(ends), **grid)
    axis.set_xlim(left, left + width)
    axis.set_ylim(bottom, bottom + width)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(f"lines every {step:g}", fontsize=6)
    return left, bottom, width


def _draw_corners(axis, pool, window, points):
    """The whole triangle, small, with the window in it, in the corner of the panel with
    the fewest points, below them and above lines."""
    left, bottom, width = window
    x, y = (points[0] - left) / width, (points[1] - bottom) / width
    size = (0.4, 0.28)
    free = [(a, b) for b in (0.71, 0.01) for a in (0.01, 0.59)]
    hidden = [
        ((abs(x - a - size[0] / 2) < 0.23) & (abs(y - b - size[1] / 2) < 0.17)).sum()
        for a, b in free
    ]
    inset = axis.inset_axes((*free[int(np.argmin(hidden))], *size), zorder=1.5)
    inset.set_facecolor(style.PAPER)
    corner = np.array([[0, 0], [1, 0], [0.5, _HEIGHT], [0, 0]])
    inset.plot(*corner.T, color=style.INK, linewidth=0.6)
    box = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * width
    inset.plot(left + box[:, 0], bottom + box[:, 1], color="#D55E00", linewidth=1)
    places = (("center", "top", 0, -0.06), ("center", "top", 1, -0.06))
    places += (("center", "bottom", 0.5, _HEIGHT + 0.03),)
    for name, (ha, va, x, y) in zip(pool, places, strict=True):
        inset.text(x, y, name, ha=ha, va=va, fontsize=5.5)
    # The panel is a square.
    half = 0.75 * size[0] / size[1]
    inset.set_xlim(0.5 - half, 0.5 + half)
    inset.set_ylim(-0.3, 1.2)
    inset.set_xticks([])
    inset.set_yticks([])
    for spine in inset.spines.values():
        spine.set_visible(False)


@styled
def plot_embedding(
    history: RatioHistory | Ratios, limit: int = _POINTS, seed: int = 0
) -> Any:
    """The ratios of all layers of each image, brought to the plane by t-SNE, by epoch,
    with one colour per class (Fig. 8).

    >>> from keras_en.analysis.running import Layer
    >>> values = np.random.default_rng(0).dirichlet([1, 1, 1], 12)
    >>> layer = Layer("norm", ("instance", "layer", "batch"))
    >>> figure = plot_embedding(Ratios.of([layer], [values], [0, 1] * 6))
    >>> figure.axes[0].get_title()
    '12 images'

    Args:
        history: `RatioHistory`, of which six epochs at most are drawn, or `Ratios`.
        limit: The largest number of images.
        seed: Of their choice, and of t-SNE.

    Raises:
        ValueError: There are fewer than four images.
        RuntimeError: scikit-learn is not installed.
    """
    check_installed("t-SNE", ["sklearn"], "plot")
    epochs: Mapping[Any, Ratios] = {None: history}  # type: ignore[dict-item]
    if isinstance(history, RatioHistory):
        step = np.linspace(0, len(history.epochs) - 1, min(6, len(history.epochs)))
        chosen = [history.epochs[i] for i in np.unique(step.round().astype(int))]
        epochs = {epoch: history.by_epoch[epoch] for epoch in chosen}
    last = list(epochs.values())[-1]
    enough = last.count >= FEWEST
    check(enough, "history", "of four images at least", last.count, "count")
    labels, classes = _colored(last)
    labels = np.zeros(last.count, int) if labels is None else labels
    # Of many classes those that have a colour, as the paper's ten.
    rows = np.flatnonzero(labels >= 0)
    rows = rows if len(rows) >= FEWEST else np.arange(last.count)
    rows = rows[measures.subset(len(rows), limit, seed)]
    columns = min(3, len(epochs))
    lines = -(-len(epochs) // columns)
    size = 7.0 / 3 if columns > 1 else 4.0
    figure = style.new_figure(0.6 + size * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in panels[len(epochs) :]:
        axis.axis("off")
    for axis, (epoch, ratios) in zip(panels, epochs.items(), strict=False):
        _draw_embedding(axis, measures.features(ratios)[rows], labels[rows], seed)
        count = f"{len(rows):,} images"
        axis.set_title(count if epoch is None else f"epoch {epoch}")
    if classes:
        style.class_legend(figure, classes, lines=False)
    return figure


def _draw_embedding(axis, values, labels, seed):
    from sklearn.manifold import TSNE

    axis.set_xticks([])
    axis.set_yticks([])
    if not values.shape[1] or np.ptp(values, axis=0).max() < 1e-5:
        place = {"ha": "center", "va": "center", "transform": axis.transAxes}
        axis.text(0.5, 0.5, "all images have\nequal ratios", **place)
        return
    perplexity = min(30.0, (len(values) - 1) / 3)
    with warnings.catch_warnings():
        # Its PCA divides by 0 where some columns are alike.
        warnings.simplefilter("ignore")
        places = TSNE(perplexity=perplexity, random_state=seed, init="pca")
        x, y = places.fit_transform(values.astype("float32")).T
    _scatter(axis, x, y, labels)


def _scatter(axis, x, y, labels):
    """Points with the colour and marker of their class; -1 is grey."""
    small: dict[str, Any] = {"s": 9, "linewidths": 0, "alpha": 0.8, "zorder": 3}
    for label in np.unique(labels):
        chosen = labels == label
        look = {"color": "#808080", "marker": "."}
        if label >= 0:
            look = {
                "color": style.CLASS_COLORS[label % len(style.CLASS_COLORS)],
                "marker": style.CLASS_MARKERS[label % len(style.CLASS_MARKERS)],
            }
        axis.scatter(x[chosen], y[chosen], **small, **look)


def _colored(ratios):
    """The number of the colour of each sample, -1 of none, and the names of the classes
    that have one: the ten with most samples."""
    if ratios.labels is None:
        return None, []
    order = np.argsort(-ratios.counts, kind="stable")[:_COLORED]
    chosen = np.sort(ratios.classes[order])
    numbers = np.full(len(ratios.labels), -1)
    for i, label in enumerate(chosen):
        numbers[ratios.labels == label] = i
    return numbers, [ratios.class_name(label) for label in chosen]


@styled
def plot_samples(
    ratios: Ratios, images: Mapping[int, np.ndarray], titles: Mapping[int, str] = {}
) -> Any:
    """Single images beside their ratios in every layer (Fig. 7); faint lines are the
    mean of all samples, from which the title says how far they are.

    >>> from keras_en.analysis.running import Layer
    >>> layer, values = Layer("norm", ("layer", "batch")), np.array([[0.2, 0.8]])
    >>> figure = plot_samples(Ratios.of([layer], [values]), {0: np.zeros((8, 8, 1))})
    >>> [axis.get_title(loc="left") for axis in figure.axes]
    ['image 0', '.20 to .80, from the mean: no difference']

    Args:
        ratios: `Ratios`, with samples.
        images: From the number of a sample to its image `(H, W, C)`, in [0, 1] or
            uint8.
        titles: Of images; "image 0" where there is none.
    """
    check(images, "images", "one image at least", None)
    names = dict(zip(ratios.paths, measures.short_names(ratios), strict=True))
    longest = max(len(style.shortened(name, 24)) for name in names.values())
    figure = style.new_figure(0.6 + 1.2 * len(images) + 0.05 * longest)
    grid = figure.add_gridspec(len(images), 2, width_ratios=(1, 5))
    paths = [
        layer.path for layer in ratios.layers if len(ratios[layer.path]) == ratios.count
    ]
    values = np.array([ratios.by_sample(path)[list(images)] for path in paths])
    means = ratios.mean()[[ratios.paths.index(path) for path in paths]]
    limits = style.range_of(np.concatenate([values, means[:, None]], axis=1))
    first = None
    for row, (number, image) in enumerate(images.items()):
        picture = figure.add_subplot(grid[row, 0])
        shown = image[..., 0] if image.shape[-1] != 3 else image
        picture.imshow(shown, cmap="gray", interpolation="nearest")
        picture.axis("off")
        title = titles.get(number, f"image {number}")
        picture.set_title(style.shortened(title, 24), loc="left", fontsize=7)
        axis = first = figure.add_subplot(grid[row, 1], sharex=first, sharey=first)
        for k, name in enumerate(ratios.normalizers):
            look = {"color": style.COLORS[name], "linestyle": style.LINES[name]}
            axis.plot(means[:, k], color=style.COLORS[name], linewidth=3, alpha=0.3)
            axis.plot(values[:, row, k], marker=style.MARKERS[name], **look)
        axis.set_ylim(limits)
        difference = style.says_difference(values[:, row] - means)
        text = f"{style.says_range(values[:, row])}, from the mean: {difference}"
        axis.set_title(text, loc="left", fontsize=7)
        axis.set_xticks(range(len(paths)))
        axis.tick_params(labelbottom=False)
    labels = [style.shortened(names[path], 24) for path in paths]
    if len(paths) <= 60:
        axis.set_xticks(range(len(paths)), labels, rotation=90, fontsize=6)
        axis.tick_params(labelbottom=True)
    style.legend(figure, ratios.normalizers)
    return figure
