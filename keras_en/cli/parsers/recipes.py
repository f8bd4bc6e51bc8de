"""`keras-en recipes`: lists the recipes of the paper's experiments, or prints one.

Lists the recipes: the paper's tables they are of, network, data, normalization, the
paper's figure, time and hardware. With a NAME, or a file, prints all its keys as YAML,
those that it leaves out or has from others, too; the text is a recipe, which `keras-en
train` takes.

Examples:
  keras-en recipes
  keras-en recipes cifar10_resnet20 --set norm.name=bn > mine.yaml
"""

from typing import Any

from keras_en.cli import options as shared


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    text = "a recipe's name, or a .yaml file; default: the list"
    command.add_argument("recipe", nargs="?", metavar="NAME", help=text)
    text = "change a key, as norm.name=bn; may be repeated"
    change: dict[str, Any] = dict(action="append", default=[], metavar="KEY=VALUE")
    command.add_argument("--set", dest="overrides", **change, help=text)
