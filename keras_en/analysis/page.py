"""One page about a network's ratios: figures, tables, images, in one file."""

import base64
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_en.analysis import dynamics, figures, measures, points, style
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.recorder import RatioHistory
from keras_en.arguments import check, check_installed

FILES = ("report.html", "ratios.npz", "ratios.csv", "figures")
# Classes with images, and images of each.
_CLASSES, _IMAGES = 10, 5


class Figure(NamedTuple):
    """A figure of the page."""

    name: str
    title: str
    caption: str
    svg: str


def write_report(
    folder: str | os.PathLike[str],
    title: str,
    ratios: Ratios,
    others: Mapping[str, Ratios] | None = None,
    history: RatioHistory | None = None,
    by_strength: Mapping[float, Ratios] | None = None,
    images: Mapping[int, np.ndarray] | None = None,
    facts: Sequence[tuple[str, str]] = (),
    seed: int = 0,
) -> Path:
    """Writes every figure that the data allow, as PNG and SVG, the ratios as
    `ratios.npz` and `ratios.csv`, and `report.html`, which holds all in one file and
    loads nothing.

    >>> import tempfile
    >>> from keras_en.analysis.running import Layer
    >>> layer, values = Layer("norm", ("layer", "batch")), np.array([[0.2, 0.8]] * 4)
    >>> ratios = Ratios.of([layer], [values], [0, 0, 1, 1])
    >>> path = write_report(tempfile.mkdtemp(), "A network", ratios)
    >>> path.name, sorted(entry.name for entry in path.parent.iterdir())
    ('report.html', ['figures', 'ratios.csv', 'ratios.npz', 'report.html'])

    Args:
        folder: Folder, which is there.
        title: Of the page, such as the network's name and the data's.
        ratios: `Ratios`.
        others: From a title to the ratios of other data, or of another network.
        history: `RatioHistory`, of the training.
        by_strength: See `plot_corruption`.
        images: From the number of a sample to its image, see `plot_samples`.
        facts: Names and values of what the reader has to know: model, data, seeds.
        seed: Of the choice of samples, and of t-SNE.

    Returns:
        Path of the page.

    Raises:
        RuntimeError: Jinja2, Matplotlib or scikit-learn is not installed.
    """
    check_installed("A report", ["jinja2", "matplotlib", "sklearn"], "plot")
    check(len(ratios), "ratios", "of one layer at least", len(ratios))
    import jinja2

    folder = Path(folder)
    (folder / "figures").mkdir()
    images = dict(images or {})
    drawn = []
    plots = _plots(title, ratios, others, history, by_strength, images, seed)
    for name, (heading, caption, plot) in plots.items():
        inline = style.write(plot(), folder / "figures", name)
        drawn.append(Figure(name, heading, caption, inline))
    ratios.save(folder / "ratios.npz")
    if ratios.samples is None or all(len(s) == ratios.count for s in ratios.samples):
        ratios.to_csv(folder / "ratios.csv")
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.jinja").render(
        title=title,
        summary=_summary(ratios),
        normalizers=ratios.normalizers,
        colors=style.page_colors(),
        has_classes=bool(len(ratios.classes)),
        rows=_rows(ratios),
        remarks=_remarks(ratios, seed),
        figures=drawn,
        classes=_typical(ratios, images),
        facts=[*facts, ("images", f"{ratios.count:,}"), ("seed", str(seed))],
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _plots(title, ratios, others, history, by_strength, images, seed):
    """From names to title, caption and function of every figure that can be drawn."""
    plots: dict[str, tuple[str, str, Callable]] = {}

    def add(name, heading, caption, plot, *arguments):
        plots[name] = (heading, caption, lambda: plot(*arguments))

    every = {title: ratios, **(others or {})}
    text = "Mean over the images; the band is one standard deviation. Along the top: "
    text += "the size of each block's input."
    add("layers", "Ratios by layer", text, figures.plot_layers, every)
    labelled = len(ratios.classes) > 0
    if labelled and len(ratios.classes) > 1:
        text = "How far the mean of each class is from the mean of all classes, in "
        text += "each layer. White is no difference."
        add("classes", "Classes", text, figures.plot_classes, ratios)
    text = "A layer without spread treats all images alike."
    add("spread", "Spread", text, figures.plot_spread, ratios)
    samples = ratios.samples is not None
    three = [x for x in ratios.layers if len(x.pool) == 3 and not x.constant]
    if samples and three:
        text = "Every image is a point: the nearer to a corner, the larger its ratio. "
        text += "The small triangle shows the part that is drawn."
        add("ternary", "Every image", text, points.plot_ternary, ratios)
    if samples and ratios.count >= 4:
        text = "The ratios of all layers of each image, at most 500 images, brought to "
        text += "the plane by t-SNE."
        source = history if history is not None and len(history.epochs) > 1 else ratios
        add("embedding", "Map", text, points.plot_embedding, source, 500, seed)
    if samples and images:
        chosen = dict(list(images.items())[:4])
        if labelled and ratios.labels is not None:
            chosen = _examples(ratios, images)
        text = "Their ratios in every layer."
        names = _titles(ratios, chosen)
        add("images", "Single images", text, points.plot_samples, ratios, chosen, names)
    if history is not None and len(history.epochs) > 1:
        text = f"Mean over the same {history.last.count:,} images, behind each epoch."
        add("epochs", "Training", text, dynamics.plot_epochs, history)
        if len(history.last.classes):
            text = "The mean of classes that end far apart. Each panel has its scale."
            plot = dynamics.plot_dynamics
            add("dynamics", "Classes in training", text, plot, history)
    if samples and _some_wrong(ratios):
        text = "Wrongly classified images against the others; a bar is the 95 % "
        text += "interval of the difference of the means."
        add("correctness", "Mistakes", text, figures.plot_correctness, ratios)
    if by_strength is not None:
        text = "Mean ratios when normal noise is added to the images; its strength is "
        text += "its standard deviation over that of the images."
        add("noise", "Noise", text, dynamics.plot_corruption, by_strength)
    return plots


def _some_wrong(ratios):
    if ratios.labels is None or ratios.predicted is None:
        return False
    wrong = ratios.labels != ratios.predicted
    return bool(wrong.any() and not wrong.all())


def _examples(ratios, images):
    """The most and the least typical image of two classes far from each other, of those
    that are there."""
    rows = dynamics.far_apart(np.nan_to_num(ratios.by_class()), 2)
    order = measures.by_typicality(ratios)
    chosen = {}
    for row in rows:
        numbers = [n for n in order[int(ratios.classes[row])].tolist() if n in images]
        chosen |= {n: images[n] for n in numbers[:1] + numbers[1:][-1:]}
    return chosen or dict(list(images.items())[:4])


def _titles(ratios, images):
    if ratios.labels is None:
        return {}
    return {n: f"{ratios.class_name(ratios.labels[n])}, {n}" for n in images}


def _summary(ratios):
    """Two sentences."""
    means = np.nan_to_num(ratios.mean())
    most = [ratios.normalizers[k] for k in means.argmax(1)]
    counts = {name: most.count(name) for name in ratios.normalizers if name in most}
    texts = [f"{name} in {count}" for name, count in counts.items()]
    kinds = f" of {len(ratios.classes):,} classes" if len(ratios.classes) else ""
    text = f"{ratios.count:,} images{kinds}, {len(ratios):,} layers. "
    return f"{text}The largest mean ratio has {', '.join(texts)} of the layers."


def _rows(ratios):
    """Cells of the table of layers."""
    means, entropy = ratios.mean(), measures.entropy(ratios)
    spread, names = measures.spread(ratios), measures.short_names(ratios)
    rows = []
    for i, layer in enumerate(ratios.layers):
        size = "\u00d7".join("?" if n is None else str(n) for n in layer.size)
        cells = [names[i], size or "\u2013"]
        cells += ["\u2013" if np.isnan(v) else style.text_of(v) for v in means[i]]
        cells += [ratios.normalizers[int(np.nanargmax(means[i]))]]
        cells += [style.text_of(entropy[i]), f"{spread.total[i]:.3f}"]
        if len(ratios.classes):
            pair = (spread.within[i], spread.between[i])
            cells += ["\u2013" if np.isnan(v) else f"{v:.3f}" for v in pair]
        rows.append(cells)
    return rows


def _remarks(ratios, seed):
    """What follows from the table, in sentences."""
    texts = []
    static = measures.layers_to_freeze(ratios)
    if static:
        text = f"{len(static)} of {len(ratios)} layers hardly depend on the image "
        text += "(standard deviation of every ratio at most .01): "
        names = dict(zip(ratios.paths, measures.short_names(ratios), strict=True))
        texts.append(text + ", ".join(names[path] for path in static) + ".")
    if ratios.labels is not None and ratios.samples is not None and ratios.count > 1:
        value = measures.separability(ratios, seed)
        text = (
            f"From the ratios alone, the five nearest of {value.samples:,} images tell "
        )
        text += f"the class of {value.accuracy:.1%}; always the most frequent class "
        text += f"would be right in {value.chance:.1%}."
        if np.isfinite(value.silhouette):
            text += f" Silhouette: {value.silhouette:.3f}, from -1 to 1."
        texts.append(text)
    if _some_wrong(ratios):
        right = (ratios.labels == ratios.predicted).mean()
        texts.append(f"The network is right in {right:.1%} of these images.")
    return texts


def _typical(ratios, images):
    """Of the first ten classes with pictures those of the most and least typical
    images."""
    if not images or ratios.labels is None or ratios.samples is None:
        return []
    result = []
    for label, order in measures.by_typicality(ratios).items():
        numbers = [n for n in order.tolist() if n in images]
        if not numbers or len(result) == _CLASSES:
            continue
        kinds = [("nearest", numbers[:_IMAGES])]
        rest = numbers[_IMAGES:][-_IMAGES:]
        kinds += [("farthest", rest[::-1])] if rest else []
        pictures = [
            (kind, [{"number": n, "uri": _uri(images[n])} for n in chosen])
            for kind, chosen in kinds
        ]
        result.append({"name": ratios.class_name(label), "images": pictures})
    return result


def _uri(image):
    """A small picture as the text of a PNG file."""
    from PIL import Image

    values = np.asarray(image)
    if values.dtype != np.uint8:
        values = np.rint(np.clip(values, 0, 1) * 255).astype("uint8")
    picture = Image.fromarray(values if values.shape[-1] == 3 else values[..., 0])
    picture.thumbnail((64, 64))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
