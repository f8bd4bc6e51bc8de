"""What a page shows: every figure that the data allow, of one network or of several."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_en.analysis import dynamics, figures, measures, points
from keras_en.analysis.ratios import Ratios
from keras_en.analysis.recorder import RatioHistory

Plot = Callable[[], Any]


class Subject(NamedTuple):
    """A network on some data."""

    title: str
    ratios: Ratios
    history: RatioHistory | None = None


class Section(NamedTuple):
    """Figures below one heading.

    - `plots`: from the number of the subject, 0 first, to what draws its figure; a
      figure of all has 0.
    """

    name: str
    title: str
    caption: str
    plots: Mapping[int, Plot]


def sections(
    subjects: Sequence[Subject],
    by_strength: Mapping[float, Ratios] | None,
    images: Mapping[int, np.ndarray],
    seed: int,
) -> list[Section]:
    """The sections of a page.

    Args:
        subjects: What the page is about, and what it is compared with.
        by_strength, images: Of the first subject, see `write_report`.
        seed: Of the choice of samples, and of t-SNE.
    """
    first = subjects[0]
    result = [*_compared(subjects)]
    for name, title, caption, choose in _KINDS:
        plots = {i: choose(one, seed) for i, one in enumerate(subjects)}
        plots = {i: plot for i, plot in plots.items() if plot is not None}
        if plots:
            result.append(Section(name, title, caption, plots))
    if first.ratios.samples is not None and images:
        text = "Their ratios in every layer, over the faint means of all images."
        plot = functools.partial(_plot_images, first.ratios, images)
        result.append(Section("images", "Single images", text, {0: plot}))
    if by_strength is not None:
        text = "How far mean ratios move when normal noise is added to the images; its "
        text += "strength is its standard deviation over that of the images."
        plot = functools.partial(dynamics.plot_corruption, by_strength)
        result.append(Section("noise", "Noise", text, {0: plot}))
    return result


def _compared(subjects):
    """Figures of all subjects together."""
    every = {one.title: one.ratios for one in subjects}
    text = "Mean over the images; the band is one standard deviation. Along the top: "
    text += "the size of each block's input."
    plot = functools.partial(figures.plot_layers, every)
    yield Section("layers", "Ratios by layer", text, {0: plot})
    own = subjects[0].ratios
    plots = {
        i: functools.partial(figures.plot_difference, own, one.ratios)
        for i, one in enumerate(subjects)
        if i and figures.common_layers(own, one.ratios)
    }
    if plots:
        text = f"Mean ratio minus that of {subjects[0].title}, in layers of the same "
        text += "name; a bar is the 95 % interval of the difference."
        yield Section("difference", "Differences", text, plots)


def _classes(subject, seed):
    if len(subject.ratios.classes) > 1:
        return functools.partial(figures.plot_classes, subject.ratios)
    return None


def _spread(subject, seed):
    return functools.partial(figures.plot_spread, subject.ratios)


def _ternary(subject, seed):
    three = [x for x in subject.ratios.layers if len(x.pool) == 3 and not x.constant]
    if subject.ratios.samples is not None and three:
        return functools.partial(points.plot_ternary, subject.ratios)
    return None


def _embedding(subject, seed):
    history, least = subject.history, points.FEWEST
    if history is not None and len(history.epochs) > 1 and history.last.count >= least:
        return functools.partial(points.plot_embedding, history, seed=seed)
    if subject.ratios.samples is not None and subject.ratios.count >= least:
        return functools.partial(points.plot_embedding, subject.ratios, seed=seed)
    return None


def _epochs(subject, seed):
    if subject.history is not None and len(subject.history.epochs) > 1:
        return functools.partial(dynamics.plot_epochs, subject.history)
    return None


def _dynamics(subject, seed):
    plot = _epochs(subject, seed)
    if plot is not None and len(subject.history.last.classes):
        return functools.partial(dynamics.plot_dynamics, subject.history)
    return None


def _correctness(subject, seed):
    if subject.ratios.samples is not None and some_wrong(subject.ratios):
        return functools.partial(figures.plot_correctness, subject.ratios)
    return None


# Name, title, caption; function of a subject and a seed to what draws it, or `None`.
_KINDS = (
    (
        "classes",
        "Classes",
        "How far the mean of each class is from the mean of all classes, in each "
        "layer. White is no difference.",
        _classes,
    ),
    ("spread", "Spread", "A layer without spread treats all images alike.", _spread),
    (
        "ternary",
        "Every image",
        "Every image is a point: the nearer to a corner, the larger its ratio. The "
        "small triangle shows the part that is drawn. Of more than nine layers nine, "
        "from the first to the last.",
        _ternary,
    ),
    (
        "embedding",
        "Map",
        "The ratios of all layers of each image, at most 500 images, brought to the "
        "plane by t-SNE.",
        _embedding,
    ),
    (
        "epochs",
        "Training",
        "Mean over the same images, behind each epoch that was noted.",
        _epochs,
    ),
    (
        "dynamics",
        "Classes in training",
        "The mean of classes that end far apart, in six layers at most. Each panel has "
        "its scale.",
        _dynamics,
    ),
    (
        "correctness",
        "Mistakes",
        "Wrongly classified images against the others; a bar is the 95 % interval of "
        "the difference of the means.",
        _correctness,
    ),
)


def some_wrong(ratios: Ratios) -> bool:
    """Whether the network is right in some images, and wrong in some."""
    if ratios.labels is None or ratios.predicted is None:
        return False
    wrong = ratios.labels != ratios.predicted
    return bool(wrong.any() and not wrong.all())


def _plot_images(ratios, images):
    chosen = dict(list(images.items())[:4])
    names = {}
    if ratios.labels is not None:
        chosen = _examples(ratios, images) or chosen
        names = {n: f"{ratios.class_name(ratios.labels[n])}, {n}" for n in chosen}
    return points.plot_samples(ratios, chosen, names)


def _examples(ratios, images):
    """The most and the least typical image of two classes far from each other, of those
    that are there."""
    rows = dynamics.far_apart(np.nan_to_num(ratios.by_class()), 2)
    order = measures.by_typicality(ratios)
    chosen = {}
    for row in rows:
        numbers = [n for n in order[int(ratios.classes[row])].tolist() if n in images]
        chosen |= {n: images[n] for n in numbers[:1] + numbers[1:][-1:]}
    return chosen
