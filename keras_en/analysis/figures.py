"""Pictures of important ratios."""

import numpy as np


def plot_class_ratios(ratios, normalizers, labels, path, class_names=None, title=None):
    """Draws the mean ratio of every layer and class, a panel a normalizer (Fig. 6).

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
    classes = np.unique(labels)
    shape = (len(labels), len(normalizers))
    for name, values in ratios.items():
        if values.shape != shape:
            raise ValueError(
                f"Argument `ratios` must hold arrays of shape {shape}. "
                f"Received: {name} of shape {values.shape}"
            )
    means = np.array(
        [
            [values[labels == c].mean(axis=0) for c in classes]
            for values in ratios.values()
        ]
    ).transpose(2, 0, 1)

    # The canvas is made without pyplot: no window, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = means.shape[1:]
    width = 1.6 + len(normalizers) * (0.6 + 0.42 * columns)
    figure = Figure(figsize=(width, 1.6 + 0.34 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(normalizers), sharey=True, squeeze=False)[0]
    low, high = means.min(), means.max()
    for axis, name, panel in zip(axes, normalizers, means, strict=True):
        image = axis.imshow(panel, vmin=low, vmax=high, cmap="viridis", aspect="auto")
        axis.set_title(name)
        axis.set_xlabel("class")
        axis.set_xticks(range(columns), classes if class_names is None else class_names)
        for row, column in np.ndindex(panel.shape):
            value = panel[row, column]
            dark = value < (low + high) / 2
            axis.text(
                column,
                row,
                f"{value:.2f}".removeprefix("0"),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    axes[0].set_yticks(range(rows), list(ratios))
    axes[0].set_ylabel("layer, from input to output")
    figure.colorbar(image, ax=list(axes), label="mean important ratio")
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=120)
    return means
