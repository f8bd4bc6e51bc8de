"""`keras-en train`: train a recipe's network, or one on images of your own.

Trains what a recipe says, on one device, many, or many hosts; the result does not
depend on how batches are split. With --data and no recipe: on images of your own, see
`keras-en recipes images`; with neither: on handwritten digits. Start a process a worker
for --strategy multiworker, each with its TF_CONFIG.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import keras

from keras_en.cli import options as shared
from keras_en.cli import starting
from keras_en.cli.options import say
from keras_en.models import norms
from keras_en.training import experiment, strategies
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


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    interrupted = "--resume goes on from the last checkpoint"
    command = shared.add_command(commands, "train", __doc__, run, interrupted)
    text = "a recipe's name, see `keras-en recipes`, or a .yaml file"
    command.add_argument("recipe", nargs="?", metavar="RECIPE", help=text)
    _add_recipe(command.add_argument_group("what the recipe says otherwise"))
    _add_run(command.add_argument_group("the run"))


def _add_recipe(group):
    option, positive = group.add_argument, shared.integer(1)
    shared.add_data(option)
    text = "a network of keras_en.models, without arguments"
    option("--network", metavar="NAME", help=text)
    option("--norm", choices=norms.NAMES, help="normalization of the network")
    option("--image-size", type=positive, metavar="N", help="height and width")
    text = "milestones and warm-up move along"
    option("--epochs", type=positive, metavar="N", help=text)
    text = "the first N training images only"
    option("--limit-train", type=positive, metavar="N", help=text)
    change: dict[str, Any] = dict(action="append", default=[], metavar="KEY=VALUE")
    text = "change any other key, as optimizer.learning_rate=0.05; may be repeated"
    option("--set", dest="overrides", **change, help=text)


def _add_run(group):
    option, positive = group.add_argument, shared.integer(1)
    text = "folder of the run; default: runs/ and the name of the recipe"
    option("--output", type=Path, metavar="FOLDER", help=text)
    option("--seed", type=shared.integer(0, 2**32 - 1), default=0, help="default: 0")
    text = "weights of this network, .weights.h5 or .keras, to begin with"
    option("--weights", type=Path, metavar="FILE", help=text)
    text = "a network to begin with, whose normalizations are replaced, and the last "
    text += "layer, if it has another number of classes"
    option("--from", dest="start", type=Path, metavar="MODEL.keras", help=text)
    text = "see tf.distribute; on JAX mirrored means all devices"
    option("--strategy", choices=strategies.NAMES, default="none", help=text)
    text = "of --strategy mirrored; default: all GPUs, or 2 logical CPUs"
    option("--replicas", type=positive, metavar="N", help=text)
    text = "steps between checkpoints; default: at the end of each epoch only"
    option("--checkpoint-every", type=positive, metavar="STEPS", help=text)
    text = "go on from the checkpoint in --output; force: with other settings, too"
    words: dict[str, Any] = dict(nargs="?", const=True, choices=(True, "force"))
    option("--resume", **words, default=False, metavar="force", help=text)
    text = "float16 or bfloat16, the default, for what need not be float32"
    words = dict(nargs="?", const="bfloat16", choices=("float16", "bfloat16"))
    option("--mixed-precision", **words, default="float32", help=text)
    option("--jit", action="store_true", default=None, help="compile steps with XLA")
    text = "the same bits in every run on the same machine; slower"
    option("--deterministic", action="store_true", help=text)
    text = "say what would be trained, look at a batch, write nothing"
    option("--dry-run", action="store_true", help=text)


def run(options: argparse.Namespace) -> None:
    recipe = _recipe(options)
    settings = experiment.Settings(
        output=options.output or Path("runs", recipe.name),
        seed=options.seed,
        strategy=options.strategy,
        replicas=options.replicas,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        verbose="auto" if sys.stdout.isatty() else 2,
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
