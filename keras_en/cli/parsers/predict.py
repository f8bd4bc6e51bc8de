"""`keras-en predict`: which classes a network sees in images.

Reads images and prints the most probable classes of each, by their names where the
training or the export has written them down. Images are treated as in the evaluation of
the training whose recipe.yaml lies beside a .keras file, or as `serving_bytes` of a
SavedModel does; otherwise resized to what the network takes, with values from 0 to 1.

Examples:
  keras-en predict runs/photos/model.keras photo.jpg
  keras-en predict served/1 a.png b.png --top 1 --json
  keras-en predict photos.onnx photo.jpg --class-names names.txt
"""

from typing import Any

from keras_en.cli import options as shared


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__, prints_json=True)
    option = command.add_argument
    text = "a .keras file, a folder of a training, a SavedModel's version or .onnx"
    option("model", type=shared.path, metavar="MODEL", help=text)
    text = "JPEG, PNG, BMP or WebP of 8 bits a channel, grey or RGB; where a "
    text += "SavedModel decodes images itself (serving_bytes), 16 bits, CMYK and GIF, "
    text += "of which the first picture counts, too"
    option("images", type=shared.path, nargs="+", metavar="IMAGE", help=text)
    shared.add_import(command)
    text = "classes of each image; default: %(default)s"
    option("--top", type=shared.integer(1), default=5, metavar="N", help=text)
    text = "a text file, one name per line; default: those that were written down"
    option("--class-names", type=shared.path, metavar="FILE", help=text)
    text = "the network takes (pixels / 255 - mean) / std"
    shared.add_scaling(option, text)
