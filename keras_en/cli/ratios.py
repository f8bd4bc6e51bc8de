"""Runs `keras-en ratios`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en import files
from keras_en.analysis import RatioHistory, collect_ratios
from keras_en.analysis.page import FILES
from keras_en.arguments import require
from keras_en.cli import options as shared
from keras_en.cli.explanation import Batches, explain
from keras_en.cli.terminal import is_quiet, progress, say
from keras_en.export.serving import loaded
from keras_en.training import experiment
from keras_en.training.data import Data, Transform, load
from keras_en.training.data.sources import is_source
from keras_en.training.recipes import recipe as recipes

_BATCH = 128


def run(options: argparse.Namespace) -> None:
    out = options.out.resolve()
    _check_out(out, options.overwrite)
    subject = Subject.of(options.model)
    images = _images(options, subject)
    others, histories = _against(options, subject, images)
    with files.staged(out) as staged:
        staged.path.mkdir()
        explain(
            staged.path,
            subject.model,
            images.batches,
            images.pixels,
            f"{subject.name} on {images.name}",
            others=others,
            history=subject.history,
            class_names=images.class_names,
            facts=[
                ("model", subject.link),
                ("data", f"{images.source}, {images.split}"),
                ("command", _command(options)),
            ],
            seed=options.seed,
            other_histories=histories,
        )
        _check_out(out, options.overwrite)
        staged.publish()
    say(f"Written: {options.out / FILES[0]}")


def _check_out(out, overwrite):
    """Raises `FileExistsError` unless it is new, empty, or a report to replace."""
    if not out.exists():
        return
    entries = {entry.name for entry in out.iterdir()} if out.is_dir() else {"a file"}
    entries = {name for name in entries if not name.startswith(files.PARTIAL)}
    foreign = entries.difference(FILES) or Path.cwd().is_relative_to(out)
    if foreign or (entries and not overwrite):
        allowed = "a new or empty folder, or with --overwrite that of a report"
        holds = ", ".join(sorted(entries)[:5])
        raise FileExistsError(f"--out must be {allowed}. Received: {out}, {holds}")


def _command(options):
    parts = ["keras-en ratios", str(options.model)]
    for name in ("data", "against", "limit"):
        if getattr(options, name) is not None:
            parts.append(f"--{name} {getattr(options, name)}")
    for name in ("mean", "std"):
        if getattr(options, name) is not None:
            parts.append(f"--{name} {','.join(map(str, getattr(options, name)))}")
    return " ".join([*parts, f"--seed {options.seed}"])


class Subject(NamedTuple):
    """A network, and what a training left beside it."""

    model: keras.Model
    name: str
    link: str
    recipe: recipes.Recipe | None = None
    history: RatioHistory | None = None

    @classmethod
    def of(cls, path: Path) -> "Subject":
        """Of a `.keras` file or of the folder of a run."""
        if not path.is_dir():
            return cls(_network(path), path.stem, str(path))
        if not (path / experiment.MODEL).is_file():
            raise ValueError(
                "MODEL_OR_RUN must be a .keras file or a folder with model.keras. "
                f"Received: {path}"
            )
        settings, history = path / experiment.RECIPE, path / experiment.RATIOS
        return cls(
            _network(path / experiment.MODEL),
            path.resolve().name,
            str(path / experiment.MODEL),
            recipes.load(settings) if settings.is_file() else None,
            RatioHistory.load(history) if history.is_file() else None,
        )


def _network(path):
    """That of a file: of one input of images, where it is known."""
    model = loaded(path)
    built = "be a network that was built, as a call does it, before it was saved"
    require(model.built, "MODEL_OR_RUN", built, path)
    inputs = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    images = not inputs or (len(inputs) == 1 and len(inputs[0]) == 4)
    what = "be a network of one input, images (N, H, W, C)"
    require(images, "MODEL_OR_RUN", what, f"{path}, of inputs {inputs}")
    return model


class Images(NamedTuple):
    """Images of one source, as a network takes them.

    - `name`: the source without its folder.
    - `batches`: function of a limit or `None` to an iterable of `(x, labels)`.
    - `pixels`: function of a batch to what it looks like, in [0, 1].
    """

    name: str
    source: str
    split: str
    class_names: Sequence[str] | None
    batches: Batches
    pixels: Callable[[np.ndarray], np.ndarray]


def _images(options, subject, source=None):
    """The images of `source`, of --data, or of the recipe."""
    settings, source = subject.recipe, source or options.data
    if source is not None:
        size = None if settings is None else settings.data.image_size
        where = {"source": source, "image_size": size}
    elif settings is not None:
        where = settings.data.where()
    else:
        raise ValueError(
            "--data must name the images where there is no recipe.yaml beside the "
            f"model. Received: {options.model} alone"
        )
    data = load(**where)
    split = "test" if "test" in data.splits else "validation"
    transform = _transform(options, subject, data, split)
    mean, std = (np.array(v, "float32") for v in (transform.mean, transform.std))

    def batches(limit):
        limits = [n for n in (limit, options.limit) if n is not None]
        fewest = min(limits, default=None)
        return data.splits[split].batches(_BATCH, transform, limit=fewest)

    names = data.class_names if data.task == "classification" else None
    source = where["source"]
    name = source.rpartition(":")[2].rstrip("/").rpartition("/")[2] or source
    return Images(name, source, split, names, batches, lambda x: x * std + mean)


def _transform(options, subject, data: Data, split):
    """What the evaluation of the recipe does; otherwise images of the model's size,
    with --mean and --std."""
    size = None
    shared.check_scaling(options, data.splits[split].image_shape[-1])
    if subject.recipe is not None and options.mean is None and options.std is None:
        part = subject.recipe.data
        size, steps = part.image_size, list(part.evaluate)
    else:
        steps, shape = [], data.splits[split].image_shape
        # Of several inputs, and of a model that is a subclass, it is something else.
        wanted: Any = getattr(subject.model, "input_shape", None)
        fixed = isinstance(wanted, tuple) and wanted[1:3] != shape[:2]
        if fixed and len(wanted) == 4 and None not in wanted[1:]:
            steps.append({"resize": list(wanted[1:3])})
        steps.append(
            {"normalize": {"mean": options.mean or 0.0, "std": options.std or 1.0}}
        )
    return Transform.of(steps, size, data.void)


def _against(options, subject, images):
    """The ratios of --against, and the history of its training, by their title."""
    if options.against is None:
        return {}, {}
    own = f"{subject.name} on {images.name}"
    if is_source(options.against):
        other, images = subject, _images(options, subject, options.against)
    else:
        # Its recipe may have another scale.
        other = Subject.of(Path(options.against))
        images = _images(options, other, images.source)
    title = f"{other.name} on {images.name}"
    if title == own:
        title = f"{other.link} on {images.source}"
    progress(f"Collecting the ratios of {title}")
    ratios = collect_ratios(
        other.model,
        images.batches(None),
        class_names=images.class_names,
        verbose=0 if is_quiet() else "auto",
    )
    # Of other images it is the same network, whose training is shown already.
    shown = other is subject or other.history is None
    return {title: ratios}, {} if shown else {title: other.history}
