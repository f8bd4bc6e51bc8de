"""Runs `keras-en recipes`."""

import argparse
import dataclasses

from keras_en.cli.terminal import say, say_json
from keras_en.text import table
from keras_en.training.recipes import recipe as recipes

HEAD = ("Recipe", "Tables", "Network", "Data", "Norm", "Paper", "Time", "Hardware")


def run(options: argparse.Namespace) -> None:
    if options.recipe is not None:
        recipe = recipes.load(options.recipe, options.overrides)
        if options.json:
            say_json(dataclasses.asdict(recipe))
        else:
            say(recipe.to_yaml().rstrip("\n"))
        return
    if options.overrides:
        raise ValueError(
            "--set must have a recipe whose keys it changes. "
            f"Received: {options.overrides[0]} without NAME"
        )
    rows = [_row(recipes.load(name)) for name in recipes.names()]
    if options.json:
        say_json([dict(zip(HEAD, row, strict=True)) for row in rows])
    else:
        say(table(HEAD, rows))


def _row(recipe):
    about, arguments = recipe.about, recipe.network.arguments
    inner = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return (
        recipe.name,
        ", ".join(map(str, about.tables)) or "-",
        f"{recipe.network.name}({inner})" if inner else recipe.network.name,
        recipe.data.source,
        recipe.norm.name,
        *(text or "-" for text in (about.paper, about.time, about.hardware)),
    )
