"""`keras-en recipes`: lists the recipes of the paper's experiments, or prints one.

Lists the recipes: the paper's tables they are of, network, data, normalization, the
paper's figure, time and hardware. With a NAME, or a file, prints all its keys as YAML,
those that it leaves out or has from others, too; the text is a recipe, which `keras-en
train` takes.
"""

import argparse
from typing import Any

from keras_en.cli.options import add_command, say
from keras_en.training.recipes import recipe as recipes

HEAD = ("Recipe", "Tables", "Network", "Data", "Norm", "Paper", "Time", "Hardware")


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = add_command(commands, "recipes", __doc__, run)
    text = "a recipe's name, or a .yaml file; default: the list"
    command.add_argument("recipe", nargs="?", metavar="NAME", help=text)
    text = "change a key, as norm.name=bn; may be repeated"
    change: dict[str, Any] = dict(action="append", default=[], metavar="KEY=VALUE")
    command.add_argument("--set", dest="overrides", **change, help=text)


def run(options: argparse.Namespace) -> None:
    if options.recipe is not None:
        text = recipes.load(options.recipe, options.overrides).to_yaml()
        for line in text.splitlines():
            say(line)
        return
    if options.overrides:
        raise ValueError(
            "--set must have a recipe whose keys it changes. "
            f"Received: {options.overrides[0]} without NAME"
        )
    rows = [_row(recipes.load(name)) for name in recipes.names()]
    say("| " + " | ".join(HEAD) + " |")
    say("|" + "---|" * len(HEAD))
    for row in rows:
        say("| " + " | ".join(row) + " |")


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
