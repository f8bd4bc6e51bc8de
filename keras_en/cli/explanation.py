"""The report about a network's ratios, from batches of images: what the quickstart and
`keras-en ratios` have in common."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_en.analysis import RatioHistory, Ratios, write_report
from keras_en.analysis.batches import classes_of
from keras_en.analysis.collect import Collector
from keras_en.cli.terminal import is_quiet, progress
from keras_en.version import __version__

# Images that the page shows some of; those that noise is added to, and how much.
SHOWN, NOISY = 2000, 500
STRENGTHS = (0.0, 0.1, 0.2, 0.4, 0.8)
# The long side of what is shown.
_SIDE = 128
Batches = Callable[[int | None], Iterable]


def explain(
    folder: Path,
    model: keras.Model,
    batches: Batches,
    pixels: Callable[[np.ndarray], np.ndarray],
    title: str,
    others: Any = None,
    history: RatioHistory | None = None,
    class_names: Sequence[str] | None = None,
    facts: Sequence[tuple[str, str]] = (),
    seed: int = 0,
    other_histories: Any = None,
) -> Ratios:
    """Writes the report about a network into a folder that is there.

    Args:
        folder, title, others, history, facts, seed, other_histories: See
            `write_report`.
        model: A built Keras model.
        batches: Function of a limit, or `None`, to an iterable of `(x, labels)`.
        pixels: Function of a batch to what it looks like, in [0, 1].
        class_names: By label.

    Returns:
        The ratios of all batches.
    """
    pictures: dict[int, np.ndarray] = {}
    most = max(1, SHOWN // len(class_names or (0,)))
    collector = Collector(model)
    progress("Collecting the ratios of every image")
    ratios = collector.collect(
        shown(batches(None), pixels, pictures, most),
        class_names=class_names,
        verbose=0 if is_quiet() else "auto",
    )
    by_strength = {}
    for strength in STRENGTHS:
        progress(f"Collecting ratios with noise of strength {strength:g}")
        by_strength[strength] = collector.collect(
            noisy(batches(NOISY), strength, seed), samples=False, verbose=0
        )
    facts = [
        *facts,
        ("pictures", f"{len(pictures):,} images, the first {most:,} of each class"),
        ("noise", f"{by_strength[0.0].count:,} images, strengths {list(STRENGTHS)}"),
        ("versions", f"keras_en {__version__}, keras {keras.__version__}"),
        ("machine", f"{os.cpu_count()} CPU cores, {keras.backend.backend()}"),
    ]
    progress("Drawing the page")
    write_report(
        folder,
        title,
        ratios,
        others,
        history,
        by_strength,
        pictures,
        facts,
        seed,
        other_histories,
    )
    return ratios


def shown(
    batches: Iterable,
    pixels: Callable[[np.ndarray], np.ndarray],
    pictures: dict[int, np.ndarray],
    most: int,
) -> Iterator:
    """The batches; the first `most` images of each class are noted in `pictures`, by
    their number, as uint8, and no larger than the page needs them."""
    counts: collections.Counter = collections.Counter()
    number = 0
    for x, labels in batches:
        classes = classes_of(labels)
        images = np.asarray(x)
        for i, label in enumerate([0] * len(images) if classes is None else classes):
            counts[label] += 1
            if counts[label] <= most and len(pictures) < SHOWN:
                image = pixels(images[i])
                step = -(-max(image.shape[:2]) // _SIDE)
                values = np.clip(image[::step, ::step], 0, 1) * 255
                pictures[number + i] = np.rint(values).astype("uint8")
        number += len(images)
        yield x, labels


def noisy(batches: Iterable, strength: float, seed: int) -> Iterator:
    """The batches with normal noise, of `strength` times their own deviation."""
    rng = np.random.default_rng(seed)
    for x, labels in batches:
        x = np.asarray(x)
        noise = rng.standard_normal(x.shape, "float32")
        yield x + strength * x.std() * noise, labels
