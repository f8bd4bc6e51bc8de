"""One page about a network's ratios: figures, tables, images, in one file."""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_en.analysis import measures, style
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.recorder import RatioHistory
from keras_en.analysis.sections import Subject, sections, some_wrong
from keras_en.arguments import check, check_installed

FILES = ("report.html", "ratios.npz", "ratios.csv", "figures")
# Classes with images, and images of each.
_CLASSES, _IMAGES = 10, 5


class Figure(NamedTuple):
    """A figure of the page; `title` is of its data, where there are several."""

    title: str
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
    other_histories: Mapping[str, RatioHistory] | None = None,
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
        others: From a title to the ratios of other data, or of another network, which
            stand beside these in tables and figures.
        history: `RatioHistory`, of the training.
        by_strength: See `plot_corruption`.
        images: From the number of a sample to its image, see `plot_samples`.
        facts: Names and values of what the reader has to know: model, data, seeds.
        seed: Of the choice of samples, and of t-SNE.
        other_histories: From titles of `others` to those of their trainings.

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
    images, histories = dict(images or {}), other_histories or {}
    subjects = [Subject(title, ratios, history)]
    subjects += [Subject(k, v, histories.get(k)) for k, v in (others or {}).items()]
    drawn = [
        (section, _drawn(section, subjects, folder / "figures"))
        for section in sections(subjects, by_strength, images, seed)
    ]
    written = ["ratios.npz"]
    ratios.save(folder / "ratios.npz")
    if ratios.samples is None or all(len(s) == ratios.count for s in ratios.samples):
        ratios.to_csv(folder / "ratios.csv")
        written.append("ratios.csv")
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
        colors=style.page_colors(),
        tables=[_table(one, seed) for one in subjects],
        sections=drawn,
        classes=_typical(ratios, images),
        facts=[*facts, ("images", f"{ratios.count:,}"), ("seed", str(seed))],
        written=written,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _drawn(section, subjects, folder):
    """Writes the figures of a section, and returns those of the page."""
    result = []
    for i, plot in section.plots.items():
        name = f"{section.name}_{i + 1}" if i else section.name
        title = subjects[i].title if i or len(section.plots) > 1 else ""
        result.append(Figure(title, style.write(plot(), folder, name)))
    return result


def _table(subject, seed):
    """What the page says of a subject's layers."""
    ratios = subject.ratios
    return {
        "title": subject.title,
        "normalizers": ratios.normalizers,
        "has_classes": bool(len(ratios.classes)),
        "rows": _rows(ratios),
        "remarks": _remarks(ratios, seed),
    }


def _summary(ratios):
    """Two sentences."""
    means = np.nan_to_num(ratios.mean())
    most = [ratios.normalizers[k] for k in means.argmax(1)]
    counts = {name: most.count(name) for name in ratios.normalizers if name in most}
    order = sorted(counts, key=lambda name: -counts[name])
    texts = [f"{name} in {counts[name]}" for name in order]
    kinds = f" of {len(ratios.classes):,} classes" if len(ratios.classes) else ""
    text = f"{ratios.count:,} images{kinds}, {len(ratios):,} layers. "
    return f"{text}The normalizer with the largest mean ratio: {', '.join(texts)}."


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
        cells += [style.text_of(entropy[i]), _digits(spread.total[i])]
        if len(ratios.classes):
            pair = (spread.within[i], spread.between[i])
            cells += ["\u2013" if np.isnan(v) else _digits(v) for v in pair]
        rows.append(cells)
    return rows


def _digits(value):
    """`.057`."""
    return f"{value:.3f}".removeprefix("0")


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
    if some_wrong(ratios):
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
