"""`keras-en evaluate`: what a trained network gets right, on any images.

Prints accuracy, of the first five too, and that of each class; or of segmentation the
mean intersection over union (mIoU) and that of each class. Every image counts once.

Examples:
  keras-en evaluate runs/photos
  keras-en evaluate model.keras --data folder:photos --report scores.md
"""

from typing import Any

from keras_en.cli import options as shared
from keras_en.cli.choices import LARGEST_SIDE


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    option = command.add_argument
    text = "the folder of a training, or a .keras file; beside it lies its recipe.yaml"
    option("model", type=shared.path, metavar="RUN", help=text)
    shared.add_import(command)
    text = "a recipe whose data and treatment of images replace those of the training"
    option("--recipe", type=shared.word, metavar="NAME", help=text)
    shared.add_data(option)
    text = "train, validation or test; default: test, or else validation"
    option("--split", metavar="NAME", help=text)
    text = (
        "short sides of images, whose probabilities are averaged: segmentation only; "
    )
    text += "recipe: those of the recipe"
    option("--scales", type=_scales, default=(), metavar="N[,N]", help=text)
    text = "a .json or .md file to write"
    option("--report", type=shared.new_path, metavar="FILE", help=text)


def _scales(text):
    if text == "recipe":
        return text
    allowed = f"integers from 8 to {LARGEST_SIDE}"
    sides = shared.listed(shared.integer(8, LARGEST_SIDE), allowed)
    return tuple(sides(text))
