"""`keras-en convert`: put another normalization into the network of a .keras file.

Replaces every batch and group normalization, and those of this library; all other
weights, and what the old layers had learned, are kept. Prints what became of each.

Examples:
  keras-en convert model.keras --out en.keras
  keras-en convert model.keras --out en.keras --initial-ratio batch=1.0
"""

from typing import Any

from keras_en.cli import options as shared
from keras_en.cli.choices import NORMS


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    shared.add_model(command)
    option = command.add_argument
    text = "the new normalization; default: %(default)s"
    option("--to", choices=NORMS, default="en", help=text)
    text = "the new .keras file"
    option("--out", type=shared.new_path, required=True, metavar="NEW", help=text)
    option(
        "--initial-ratio",
        type=shared.share,
        action="append",
        metavar="NAME=SHARE",
        help="ratio that a normalizer starts with, such as batch=1.0; may be repeated; "
        "default: 0.9 for the old one",
    )
    shared.add_overwrite(command, "replace the file of --out")
