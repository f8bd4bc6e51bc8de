"""`report.md` of a run, with its pictures."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_en import files
from keras_en.text import printable
from keras_en.training import pictures
from keras_en.training.confusion import Confusion
from keras_en.training.pictures import Samples

NAME = "report.md"
CURVES, CONFUSION, SAMPLES = "curves.png", "confusion.png", "samples.png"
# With more classes a matrix is not drawn, and its largest entries are listed.
_DRAWN, _LISTED = 100, 20


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report shows.

    Attributes:
        title: What the run is.
        command: The command line.
        settings: Text, such as `Recipe.to_yaml()`.
        history: Metric to its values, one an epoch.
        results: What was measured at the end, by name.
        class_names: By label.
        confusion: Of the test images; `None`: no matrix.
        segmentation: Whether it counts pixels.
        samples: Images to be shown, of a segmentation; `None`: none.
        warnings: Texts that a reader should not miss.
        files: Names in the folder to link to.
    """

    title: str
    command: str
    settings: str
    history: Mapping[str, Sequence[float]]
    results: Mapping[str, float]
    class_names: Sequence[str]
    confusion: Confusion | None = None
    segmentation: bool = False
    samples: Samples | None = None
    warnings: Sequence[str] = ()
    files: Sequence[str] = ()


def write_report(folder: Path, report: Report) -> None:
    """Writes `report.md` and its pictures, all of them or none.

    Without matplotlib it has no pictures and says so.
    """
    drawn = importlib.util.find_spec("matplotlib") is not None

    def save(path):
        text = _text(report, path.parent, drawn)
        path.write_text(printable(text), encoding="utf-8")

    files.write(folder / NAME, save)


def _text(report, folder, drawn):
    """The report; its pictures are drawn into a folder."""
    parts = [f"# {report.title}", f"`{report.command}`"]
    parts += [f"> **Warning.** {text}" for text in report.warnings]
    rows = [(name, _figure(value)) for name, value in report.results.items()]
    parts += ["## Results", _table(("", ""), rows)]
    if not drawn:
        parts.append("No pictures: they need `pip install 'keras-en[plot]'`.")
    if report.history and drawn:
        pictures.draw_curves(folder / CURVES, report.history)
        parts += ["## Curves", f"![Loss and metric by epoch]({CURVES})"]
    if report.confusion is not None:
        parts += _classes(report, folder, drawn)
    if report.samples is not None and drawn:
        pictures.draw_samples(folder / SAMPLES, report.samples, report.class_names)
        parts += ["## Images", f"![Image, truth and prediction]({SAMPLES})"]
    parts += ["## Settings", f"```\n{report.settings.strip()}\n```"]
    if report.files:
        links = "\n".join(f"- [{name}]({name})" for name in report.files)
        parts += ["## Files", links]
    return "\n\n".join(parts) + "\n"


def _classes(report, folder, drawn):
    """What becomes of each class."""
    confusion, names = report.confusion, report.class_names
    counts = [f"{count:,}" for count in confusion.matrix.sum(axis=1)]
    shares = map(_percent, confusion.per_class)
    if report.segmentation:
        rows = [*zip(names, counts, map(_percent, confusion.iou), shares, strict=True)]
        mean = "mean", f"{confusion.samples:,}", _percent(confusion.mean_iou), ""
        head = "class", "pixels", "IoU", "accuracy"
        return ["## Classes", _table(head, [*rows, mean])]
    parts = ["## Confusions"]
    few = len(names) <= _DRAWN
    if few and drawn:
        pictures.draw_confusion(folder / CONFUSION, confusion.matrix, names)
        parts.append(f"![True and predicted classes]({CONFUSION})")
    else:
        rows = [(names[t], names[p], f"{n:,}") for t, p, n in confusion.worst(_LISTED)]
        parts.append(_table(("true", "predicted", "images"), rows))
    if few:
        rows = zip(names, counts, shares, strict=True)
        parts += ["## Classes", _table(("class", "images", "accuracy"), rows)]
    return parts


def _table(head, rows):
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value):
    return " ".join(str(value).split()).replace("|", r"\|")


def _percent(value):
    return "" if np.isnan(value) else f"{value:.2%}"


def _figure(value):
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
