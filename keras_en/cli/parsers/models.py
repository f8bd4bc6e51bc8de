"""`keras-en models`: parameters and operations of the paper's networks.

Counts parameters and operations of the paper's networks, beside what Tables 2 and 3
print.

Examples:
  keras-en models
  keras-en models --network ResNet50 --norm bn --norm en
"""

from typing import Any

from keras_en.cli import options as shared
from keras_en.cli.choices import NETWORKS, NORMS


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    option = command.add_argument
    text = "a network of the paper; may be repeated; default: all"
    option("--network", choices=NETWORKS, action="append", help=text)
    text = "its normalization; may be repeated; default: bn, gn, sn, ssn, en; bn for "
    option("--norm", choices=NORMS, action="append", help=text + "SE and AA")
