"""`keras-en ratios`: show which normalization a network chose, by layer, class and
image.

Collects the important ratios of a network of Exemplar Normalization over images and
writes a page, report.html, with every figure, which needs no network; the figures as
files; and the ratios as a table. Of a folder that a training wrote the data are those
of its recipe.

Examples:
  keras-en ratios runs/quickstart --out report
  keras-en ratios model.keras --data folder:photos --limit 500 --out report
  keras-en ratios runs/quickstart --against runs/other --out report
"""

from typing import Any

from keras_en.cli import options as shared


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, __doc__)
    option = command.add_argument
    text = "a .keras file, or the folder of a training"
    option("model", type=shared.path, metavar="MODEL_OR_RUN", help=text)
    shared.add_import(command)
    text = f"the images: {shared.FORMS}; its test images, or else those for "
    text += "validation; default: those of the run's recipe"
    option("--data", type=shared.source, metavar="SOURCE", help=text)
    text = "folder of the report"
    option("--out", type=shared.folder, required=True, metavar="FOLDER", help=text)
    text = "another model or run, on the same images, or another SOURCE, to compare"
    option("--against", type=shared.word, metavar="OTHER", help=text)
    text = "at most so many images; default: all"
    option("--limit", type=shared.integer(4), metavar="N", help=text)
    text = "of the model's images, (pixels / 255 - mean) / std; default: 0 and 1"
    shared.add_scaling(option, text)
    shared.add_seed(option, "of noise and of the images that are shown")
    shared.add_overwrite(command, "replace the report in --out")
