"""`keras-en models`: parameters and operations of the paper's networks."""

import argparse
from typing import Any

from keras_en.cli.options import add_command
from keras_en.models import norms, summary


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = add_command(
        commands,
        "models",
        run,
        help="parameters and operations of the paper's networks",
        description="Counts parameters and operations of the paper's networks, beside "
        "what Tables 2 and 3 print.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument(
        "--network",
        choices=list(summary.NETWORKS),
        action="append",
        help="may be repeated; default: all",
    )
    command.add_argument(
        "--norm",
        choices=norms.NAMES,
        action="append",
        help="may be repeated; default: bn, gn, sn, ssn, en; bn for SE and AA",
    )


def run(options: argparse.Namespace) -> None:
    networks = options.network or list(summary.NETWORKS)
    print(summary.markdown(summary.summary_table(networks, options.norm)))
