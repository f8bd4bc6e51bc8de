"""Runs `keras-en train`."""

import argparse
import json
import shlex
import sys
from pathlib import Path

import keras

from keras_en.cli import options as shared
from keras_en.cli import starting
from keras_en.cli.terminal import is_quiet, progress, say
from keras_en.training import experiment
from keras_en.training.recipes import recipe as recipes

# Options that are keys of the recipe.
KEYS = {
    "data": "data.source",
    "labels": "data.labels",
    "image_size": "data.image_size",
    "batch_size": "data.batch_size",
    "limit_train": "data.limit_train",
    "norm": "norm.name",
}
NAMES = {
    "top1": "Test accuracy",
    "top5": "Test accuracy, first five",
    "miou": "Test mIoU",
}


def run(options: argparse.Namespace) -> None:
    recipe = _recipe(options)
    settings = experiment.Settings(
        output=options.output or Path("runs", recipe.name),
        seed=options.seed,
        strategy=options.strategy,
        replicas=options.replicas,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        verbose=_verbosity(),
        progress=progress,
        jit=options.jit,
        deterministic=options.deterministic,
        precision=options.mixed_precision,
        data_dir=options.data_dir,
        skip_broken=options.skip_broken,
        network=starting.network(options.weights, options.start),
        command=shlex.join(["keras-en", *sys.argv[1:]]),
    )
    if options.dry_run:
        _say_what(recipe, settings)
        return
    results = experiment.train(recipe, settings)
    if results is None:
        return
    say()
    for name, value in results.scores.metrics.items():
        if name in NAMES:
            say(f"{NAMES[name]}: {value:.2%}")
    for text in results.warnings:
        say(f"Warning: {text}")
    say("Written:")
    for name in experiment.FILES:
        say(f"  {settings.output / name}")


def _verbosity():
    if is_quiet():
        return 0
    return "auto" if sys.stdout.isatty() else 2


def _recipe(options):
    """The recipe with what options say otherwise."""
    name = options.recipe
    if name is None and options.resume and options.output is not None:
        # That of the run that is gone on with.
        path = options.output / experiment.RECIPE
        name = path if path.is_file() else None
    if name is None:
        own = options.data not in (None, "digits")
        name = "images" if own else "digits"
    overrides = shared.overrides(options, KEYS)
    if options.network is not None:
        # The arguments of another network would not fit.
        overrides.append(f"network={json.dumps({'name': options.network})}")
    recipe = recipes.load(name, [*overrides, *options.overrides])
    if options.epochs is not None:
        recipe = recipe.lasting(options.epochs)
    return recipe


def _say_what(recipe, settings):
    with experiment.prepared(recipe, settings, writes=False) as ready:
        images, model = ready.material, ready.model
        batch, labels = next(iter(images.train(0)))
        data, part = images.data, recipe.data
        splits = (f"{name} {len(split):,}" for name, split in data.splits.items())
        rates = [_rate(model, ready, share) for share in (0, 0.5, 1)]
        for what, text in {
            "recipe": recipe.name,
            "network": f"{model.name}, {model.count_params():,} parameters, "
            f"{images.facts.classes} classes",
            "normalization": recipe.norm.name,
            "data": f"{part.source}: {', '.join(splits)}",
            "batch": f"images {tuple(batch.shape)} {_dtype(batch)}, "
            f"labels {tuple(labels.shape)} {_dtype(labels)}",
            "optimizer": f"{type(model.optimizer).__name__}, learning rate "
            f"{', '.join(f'{rate:.3g}' for rate in rates)} at the first, middle and "
            "last step",
            "training": f"{ready.epochs} epochs of {images.steps} steps",
            "left out": f"{len(data.skipped)} broken images" if data.skipped else "",
            "folder": settings.output,
        }.items():
            if text:
                say(f"{what + ':':15}{text}")


def _rate(model, ready, share):
    """The learning rate at a share of the training."""
    steps = ready.recipe.schedule.steps(ready.material.steps)
    model.optimizer.iterations.assign(round(share * (steps - 1)))
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def _dtype(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)
