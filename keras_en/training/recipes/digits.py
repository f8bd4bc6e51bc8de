"""A residual network of 8 layers on handwritten digits, the quickstart's recipe."""

import csv
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_en.models import CifarResNet
from keras_en.training.data import Split

DEPTH = 8
BATCH_SIZE = 64
LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4
EPOCHS = 30


def compiled_model(
    train: Split, norm: str, epochs: int, batch_size: int, synchronized: bool = False
) -> keras.Model:
    """The network, compiled, for `epochs` of `train`;
    `synchronized` is for those normalizations that know it."""
    kwargs = {"synchronized": True} if synchronized and norm in ("en", "bn") else None
    model = CifarResNet(
        DEPTH,
        input_shape=train.images.shape[1:],
        classes=10,
        norm=norm,
        norm_kwargs=kwargs,
    )
    steps = epochs * -(-len(train.labels) // batch_size)
    model.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps),
            momentum=0.9,
            nesterov=True,
            weight_decay=WEIGHT_DECAY,
        ),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def write_history(path: Path, history: dict[str, Sequence[float]]) -> None:
    """Writes a table of the metrics, an epoch a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *row])
