"""Pictures of important ratios."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_en.arguments import check_installed


def plot_class_ratios(
    ratios: Mapping[str, np.ndarray],
    normalizers: Sequence[str],
    labels: Any,
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    title: str | None = None,
) -> np.ndarray:
    """Draws the mean ratio of every layer and class, a panel a normalizer (Fig. 6).

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "ratios.png")
    >>> ratios = {"norm": np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])}
    >>> means = plot_class_ratios(ratios, ("layer", "batch"), [3, 3, 5], path)
    >>> means.round(1).tolist()
    [[[0.3, 0.9]], [[0.7, 0.1]]]

    Args:
        ratios: Dictionary from layer name to `(N, K)`, as `collect_ratios` returns.
        normalizers: `K` names, the columns of every entry of `ratios`.
        labels: `(N,)` integers, the class of each sample.
        path: Path of the picture; its ending chooses the format.
        class_names: Names of the classes; their numbers if `None`.
        title: Title of the picture.

    Returns:
        Array `(K, layers, classes)`, what was drawn.

    Raises:
        ValueError: An entry of `ratios` has not `N` rows and `K` columns.
    """
    labels = np.asarray(labels)
    shape = (len(labels), len(normalizers))
    for name, values in ratios.items():
        if values.shape != shape:
            raise ValueError(
                f"Argument `ratios` must hold arrays of shape {shape}. "
                f"Received: {name} of shape {values.shape}"
            )
    classes = np.unique(labels)
    by_layer = [
        [values[labels == c].mean(axis=0) for c in classes]
        for values in ratios.values()
    ]
    means = np.array(by_layer).transpose(2, 0, 1)
    names = classes if class_names is None else class_names
    figure = _heatmaps(means, normalizers, list(ratios), names)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=120)
    return means


def _heatmaps(means, normalizers, layers, classes):
    # The canvas is made without pyplot: no window, no global state.
    check_installed("A picture", ["matplotlib"], "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 1.6 + len(normalizers) * (0.6 + 0.42 * len(classes))
    figure = Figure(figsize=(width, 1.6 + 0.34 * len(layers)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(normalizers), sharey=True, squeeze=False)[0]
    low, high = means.min(), means.max()
    for axis, name, panel in zip(axes, normalizers, means, strict=True):
        image = axis.imshow(panel, vmin=low, vmax=high, cmap="viridis", aspect="auto")
        axis.set_title(name)
        axis.set_xlabel("class")
        axis.set_xticks(range(len(classes)), classes)
        for row, column in np.ndindex(panel.shape):
            value = panel[row, column]
            text = f"{value:.2f}".removeprefix("0")
            color = "white" if value < (low + high) / 2 else "black"
            center = {"ha": "center", "va": "center"}
            axis.text(column, row, text, fontsize=7, color=color, **center)
    axes[0].set_yticks(range(len(layers)), layers)
    axes[0].set_ylabel("layer, from input to output")
    figure.colorbar(image, ax=list(axes), label="mean important ratio")
    return figure
