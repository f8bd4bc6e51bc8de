"""`keras-en models`: parameters and operations of the paper's networks.

Counts parameters and operations of the paper's networks, beside what Tables 2 and 3
print.
"""

import argparse
from typing import Any

from keras_en.cli.options import add_command, say
from keras_en.models import norms, summary


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = add_command(commands, "models", __doc__, run)
    command.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    option = command.add_argument
    text = "may be repeated; default: "
    networks = list(summary.NETWORKS)
    option("--network", choices=networks, action="append", help=text + "all")
    text += "bn, gn, sn, ssn, en; bn for SE and AA"
    option("--norm", choices=norms.NAMES, action="append", help=text)


def run(options: argparse.Namespace) -> None:
    networks = options.network or list(summary.NETWORKS)
    say(summary.markdown(summary.summary_table(networks, options.norm)))
