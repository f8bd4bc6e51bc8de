"""Pictures of a run: its curves, its confusions, images with their masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_en.arguments import check_installed

# With more classes a cell has no number, and an axis no names.
_NUMBERS, _NAMES = 20, 50
# With more masks or names a picture is of no use.
_ROWS, _LEGEND = 6, 20
_DPI = 100
# The metrics of `keras_en.training.build`, the first of which is drawn.
_METRICS = ("accuracy", "mean_iou", "main_accuracy", "main_mean_iou")


class Samples(NamedTuple):
    """A few images of a segmentation.

    - `images`: `(N, H, W, C)`, of any range of values, or a list of such images.
    - `truths`, `predictions`: `(N, H, W)`, labels.
    """

    images: Any
    truths: Any
    predictions: Any


def draw_curves(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """Loss and a metric by epoch, of training and validation; the latter where there is
    one."""
    metric = next((name for name in _METRICS if name in history), None)
    names = ["loss", *([metric] if metric else [])]
    figure = _figure(4.8 * len(names), 3.4)
    for axis, name in zip(
        figure.subplots(1, len(names), squeeze=False)[0], names, strict=True
    ):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            values = history.get(key, ())
            if len(values):
                epochs = range(1, 1 + len(values))
                # A single epoch is a point.
                axis.plot(epochs, values, label=label, marker="o", markersize=3)
        axis.set(xlabel="epoch", ylabel=name.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    figure.savefig(path, dpi=_DPI)


def draw_confusion(path: Path, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """The share of each class, a row, that is taken for each, a column."""
    classes = len(class_names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 3 + 0.32 * classes)
    figure = _figure(side + 1, side)
    axis = figure.subplots()
    image = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axis.set(xlabel="predicted", ylabel="true")
    if classes <= _NAMES:
        names = [_plain(name) for name in class_names]
        axis.set_xticks(range(classes), names, rotation=90, fontsize=8)
        axis.set_yticks(range(classes), names, fontsize=8)
    if classes <= _NUMBERS:
        for row, column in np.argwhere(matrix > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            center = {"ha": "center", "va": "center", "fontsize": 7}
            axis.text(column, row, str(matrix[row, column]), color=color, **center)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    figure.savefig(path, dpi=_DPI)


def draw_samples(path: Path, samples: Samples, class_names: Sequence[str]) -> None:
    """A row an image: itself, its truth, its prediction; labels beyond the classes, of
    void pixels, are black."""
    from matplotlib.patches import Patch

    rows = min(_ROWS, len(samples.images))
    figure = _figure(9, 2.4 * rows + 0.8)
    colors = _colors(len(class_names))
    panels = figure.subplots(rows, 3, squeeze=False)
    seen: set[int] = set()
    for axes, image, *masks in zip(panels, *samples, strict=False):
        axes[0].imshow(_displayed(image), cmap="gray")
        for axis, mask in zip(axes[1:], masks, strict=True):
            mask = np.asarray(mask)
            inside = (mask >= 0) & (mask < len(class_names))
            seen |= set(np.unique(mask[inside]).tolist())
            axis.imshow(
                np.where(inside[..., None], colors[np.where(inside, mask, 0)], 0)
            )
        for axis in axes:
            axis.set(xticks=[], yticks=[])
    for axis, title in zip(panels[0], ("image", "truth", "prediction"), strict=True):
        axis.set_title(title)
    if seen and len(seen) <= _LEGEND:
        patches = [Patch(color=colors[c], label=_plain(class_names[c])) for c in seen]
        figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=7)
    figure.savefig(path, dpi=_DPI)


def _figure(width, height):
    # Made without pyplot: no window, no global state.
    check_installed("A picture", ["matplotlib"], "plot")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _colors(classes):
    """`(classes, 3)`, in [0, 1]."""
    import matplotlib

    if classes <= 20:
        return np.array(matplotlib.colormaps["tab20"](np.arange(classes)))[:, :3]
    return np.array(matplotlib.colormaps["hsv"](np.linspace(0, 1, classes)))[:, :3]


def _displayed(image):
    """An image in [0, 1], whatever its range was."""
    image = np.asarray(image, "float32")
    low, high = image.min(), image.max()
    image = (image - low) / (high - low if high > low else 1)
    return image[..., 0] if image.shape[-1] == 1 else image[..., :3]


def _plain(name):
    # A dollar begins a formula.
    return str(name).replace("$", r"\$")
