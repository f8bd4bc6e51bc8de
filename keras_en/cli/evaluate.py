"""Runs `keras-en evaluate`."""

import argparse
import json
import math
import os

from keras_en import files
from keras_en.cli import options as shared
from keras_en.cli.terminal import progress, progressing, say
from keras_en.export.pixels import DIVISORS, resolved
from keras_en.export.serving import loaded
from keras_en.text import as_json
from keras_en.training import experiment
from keras_en.training.evaluation import Scores, check_network, evaluate
from keras_en.training.material import material
from keras_en.training.recipes import recipe as recipes
from keras_en.training.run_folder import check_classes

KEYS = {"data": "data.source", "labels": "data.labels", "batch_size": "data.batch_size"}
TITLES = {
    "top1": "accuracy",
    "top5": "accuracy, first five",
    "miou": "mIoU",
    "pixels": "accuracy of pixels",
}


def run(options: argparse.Namespace) -> None:
    _check_report(options.report)
    folder, path = _model(options.model)
    progress(f"Reading {path}")
    model = loaded(path)
    check_network(model, "RUN", path)
    recipe = _recipe(folder, options, model)
    whole = options.data is not None and not _is_of_run(folder, recipe)
    where = {"data_dir": options.data_dir, "skip_broken": options.skip_broken}
    images = material(recipe, **where, whole=whole)
    check_classes(folder, images.data.class_names, "--data must hold")
    scales = recipe.data.scales if options.scales == "recipe" else options.scales
    split = images.split(options.split)
    progress(f"Evaluating {split} of {recipe.data.source}")
    scores = evaluate(model, images, split, scales, progressing("images"))
    names = images.data.class_names
    about = {
        "model": str(path),
        "data": recipe.data.source,
        "split": split,
        "images": scores.images,
        "scales": list(scales),
    }
    if options.report is not None:
        text = _report(options.report.suffix, about, names, scores)
        files.write_text(options.report, text)
    if options.json:
        say(_report(".json", about, names, scores).rstrip())
    else:
        _say_scores(split, names, scores)


def _say_scores(split, names, scores):
    for name, value in scores.metrics.items():
        say(f"{TITLES[name] + ':':22}{value:.2%}")
    say(f"{'images:':22}{scores.images:,} of {split}")
    for name, share in _per_class(names, scores).items():
        say(f"  {name:20}{'-' if share is None else format(share, '.2%')}")


def _check_report(path):
    if path is None:
        return
    valid = path.suffix in (".json", ".md") and not path.is_dir()
    if not valid or not path.parent.is_dir():
        raise ValueError(
            "--report must be a .json or .md file in a folder that exists. "
            f"Received: {path}"
        )


def _model(path):
    """The folder of a run, and the file of its network."""
    file = path / experiment.MODEL if path.is_dir() else path
    if file.suffix != ".keras" or not file.is_file():
        raise ValueError(
            "RUN must be the folder of a training that has ended, which holds "
            f"{experiment.MODEL}, or a .keras file. Received: {path}"
        )
    return file.parent, file


def _recipe(folder, options, model):
    """The recipe whose data is meant; without one images of the size and the range that
    the network takes."""
    own = folder / experiment.RECIPE
    name = options.recipe or (own if own.is_file() else None)
    if name is None and options.data is None:
        raise ValueError(
            f"--data or --recipe must say which images: {folder} holds no "
            f"{experiment.RECIPE}. Received: neither"
        )
    overrides = shared.overrides(options, KEYS)
    if options.data is not None:
        # Of the data of the recipe.
        overrides = ["data.labels=null", "data.hold_out=null", *overrides]
    if name is None:
        shape, divisor = model.input_shape, DIVISORS[resolved("auto", model)]
        size = shape[1]
        steps = json.dumps([{"normalize": {"std": divisor / 255}}])
        overrides += [f"data.image_size={json.dumps(size)}", "data.train=[]"]
        overrides.append(f"data.evaluate={steps}")
    return recipes.load(name or "images", overrides)


def _is_of_run(folder, recipe):
    """Whether the data is what the run beside a network was trained on."""
    own = folder / experiment.RECIPE
    if not own.is_file():
        return False
    return _place(recipes.load(own).data.source) == _place(recipe.data.source)


def _place(source):
    kind, _, rest = os.path.expandvars(source).partition(":")
    return kind, os.path.realpath(rest) if kind in ("folder", "npz") else rest


def _per_class(names, scores: Scores) -> dict[str, float | None]:
    values = scores.per_class.tolist()
    return {
        name: None if math.isnan(value) else value
        for name, value in zip(names, values, strict=True)
    }


def _report(suffix, about, names, scores):
    classes = _per_class(names, scores)
    if suffix == ".json":
        values = {**about, "metrics": scores.metrics, "classes": classes}
        values["confusion_matrix"] = scores.confusion.matrix.tolist()
        return f"{as_json(values)}\n"
    lines = ["# Evaluation", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in about.items() if value]
    lines += [f"| {TITLES[k]} | {v:.2%} |" for k, v in scores.metrics.items()]
    lines += ["", "| class | |", "|---|---|"]
    for name, value in classes.items():
        lines.append(f"| {name} | {'-' if value is None else format(value, '.2%')} |")
    return "\n".join(lines) + "\n"
