"""`keras-en train`: train that network on one device, many, or many hosts, with
checkpoints.

Trains the network of the quickstart under a strategy of tf.distribute; the result does
not depend on how batches are split. Start a process a worker for --strategy
multiworker, each with its TF_CONFIG.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from keras_en import files, training
from keras_en.arguments import check_installed
from keras_en.cli import options as shared
from keras_en.cli.quickstart import check_folder
from keras_en.training import checkpoints, strategies
from keras_en.training.recipes import digits

FILES = ("history.csv", "model.keras", checkpoints.NAME)


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    interrupted = "--resume goes on from the last checkpoint"
    command = shared.add_command(commands, "train", __doc__, run, interrupted)
    shared.add_recipe(command, "runs/train")
    option, size = command.add_argument, digits.BATCH_SIZE
    text = "images of a global batch"
    option("--batch-size", type=shared.integer(1), default=size, help=text)
    text = "see tf.distribute"
    option("--strategy", choices=strategies.NAMES, default="none", help=text)
    text = "of --strategy mirrored; default: all GPUs, or 2 logical CPUs"
    option("--replicas", type=shared.integer(1), help=text)
    text = "steps between checkpoints; default: at the end of each epoch only"
    option("--checkpoint-every", type=shared.integer(1), metavar="STEPS", help=text)
    text = "go on from the checkpoint in --output; force: with other settings, too"
    words: dict[str, Any] = dict(nargs="?", const=True, choices=(True, "force"))
    option("--resume", **words, default=False, metavar="force", help=text)


def run(options: argparse.Namespace) -> None:
    arguments = {**vars(options), "verbose": "auto" if sys.stdout.isatty() else 2}
    del arguments["run"], arguments["interrupted"]
    results = train(**arguments)
    if results.chief:
        print(f"\nTest accuracy: {results.test_accuracy:.2%}")
        print("Written:")
        for name in FILES:
            print(f"  {options.output / name}")


class Results(NamedTuple):
    """Of a training; `chief` is whether this is the process that wrote."""

    chief: bool
    test_loss: float
    test_accuracy: float


def train(
    output: str | os.PathLike[str],
    seed: int = 0,
    epochs: int = digits.EPOCHS,
    norm: str = "en",
    batch_size: int = digits.BATCH_SIZE,
    strategy: str = "none",
    replicas: int | None = None,
    checkpoint_every: int | None = None,
    resume: bool | Literal["force"] = False,
    verbose: str | int = "auto",
) -> Results:
    """Trains a residual network of 8 layers on handwritten digits.

    Every worker calls this; the chief writes `checkpoint.npz` after every epoch, and
    at the end `model.keras` and `history.csv`.

    Args:
        output: Folder of the run, which every worker can read.
        seed: Integer, the seed of weights, order, augmentation and split.
        epochs: Positive integer.
        norm: Name of the normalization, see `keras_en.models.norms`; "en" is
            synchronized over the replicas.
        batch_size: Images of a global batch.
        strategy, replicas: See `keras_en.training.strategy`.
        checkpoint_every, resume, verbose: See `keras_en.training.fit`.

    Returns:
        `Results`.

    Raises:
        FileExistsError: `output` holds a run and `resume` is `False`, or other files.
        FloatingPointError: The loss is not finite, see `keras_en.training.fit`.
        RuntimeError: The backend is not TensorFlow, a package is missing, or a worker
            is gone.
        ValueError: See `keras_en.training.strategy` and `fit`.
    """
    output = Path(output)
    shared.check_tensorflow("keras-en train")
    check_installed("keras-en train", ["sklearn"])
    # First: TensorFlow must not have touched a device yet.
    chosen = training.strategy(strategy, replicas)
    chief = strategies.is_chief(chosen)
    if chief:
        own = (*FILES, checkpoints.PARTIAL)
        check_folder(output, own, bool(resume), "--resume goes on with it")
    keras.utils.set_random_seed(seed)
    data = training.digits(seed)
    with chosen.scope():
        model = digits.compiled_model(
            data["train"], norm, epochs, batch_size, synchronized=True
        )

    def batches(epoch):
        # An epoch's own seed: a resumed run sees the batches of an interrupted one.
        drawn = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]) // 2
        return training.batches(data["train"], batch_size, drawn, shift=1)

    history = training.fit(
        model,
        batches,
        # What `batches` depends on: a run goes on with the same only.
        batch_size=batch_size,
        seed=seed,
        epochs=epochs,
        verbose=verbose,
        validation_data=tuple(data["validation"]),
        validation_batch_size=32,
        checkpoint=output,
        checkpoint_every=checkpoint_every,
        resume=resume,
    ).history
    results = training.evaluate(model, *data["test"], batch_size=120, verbose=0)
    if chief:
        with files.staged(output / "history.csv", "history.csv") as staged:
            digits.write_history(staged.path, history)
            staged.publish()
        with files.staged(output / "model.keras", "model.keras") as staged:
            model.save(staged.path)
            staged.publish()
    return Results(chief, results["loss"], results["accuracy"])
