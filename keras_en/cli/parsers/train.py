"""`keras-en train`: train a recipe's network, or one on images of your own.

Trains what a recipe says, on one device, many, or many hosts; the result does not
depend on how batches are split. With --data and no recipe: on images of your own, see
`keras-en recipes images`; with neither: on handwritten digits. Start a process a worker
for --strategy multiworker, each with its TF_CONFIG.

Examples:
  keras-en train cifar10_resnet20 --norm bn --seed 1
  keras-en train --data folder:photos --network ResNet50
  keras-en train --data folder:photos --from model.keras --dry-run
  keras-en train --resume --output runs/images
"""

from typing import Any

from keras_en.cli import options as shared
from keras_en.cli.choices import LARGEST_SIDE, STRATEGIES


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    interrupted = "--resume goes on from the last checkpoint"
    command = shared.add_command(commands, __doc__, interrupted)
    text = "a recipe's name, see `keras-en recipes`, or a .yaml file"
    command.add_argument("recipe", nargs="?", metavar="RECIPE", help=text)
    shared.add_import(command)
    _add_recipe(command.add_argument_group("what the recipe says otherwise"))
    _add_run(command.add_argument_group("the run"))


def _add_recipe(group):
    option, positive = group.add_argument, shared.integer(1)
    shared.add_data(option)
    text = "a network of keras_en.models, without arguments"
    option("--network", metavar="NAME", help=text)
    shared.add_norm(option)
    text = "height and width of images"
    option("--image-size", type=shared.integer(1, LARGEST_SIDE), metavar="N", help=text)
    text = "N training images only, drawn by chance, the same for every seed"
    option("--limit-train", type=positive, metavar="N", help=text)
    shared.add_changes(option, "any other key, as optimizer.learning_rate=0.05")


def _add_run(group):
    option, positive = group.add_argument, shared.integer(1)
    text = "folder of the run; default: runs/ and the name of the recipe"
    option("--output", type=shared.folder, metavar="FOLDER", help=text)
    shared.add_seed(option, "of weights, order and augmentation")
    text = "weights of this network, .weights.h5 or .keras, to begin with"
    option("--weights", type=shared.path, metavar="FILE", help=text)
    text = "a network to begin with, whose normalizations are replaced (epsilon and "
    text += "momentum stay), and the last layer, if it has another number of classes"
    start: dict[str, Any] = dict(dest="start", type=shared.path)
    option("--from", **start, metavar="MODEL.keras", help=text)
    text = "many devices or hosts, as tf.distribute does it; on JAX mirrored means all "
    text += "devices; default: %(default)s"
    option("--strategy", choices=STRATEGIES, default="none", help=text)
    text = "devices of --strategy mirrored; default: all GPUs, or 2 logical CPUs"
    option("--replicas", type=positive, metavar="N", help=text)
    text = "steps between checkpoints; default: at the end of each epoch only"
    option("--checkpoint-every", type=positive, metavar="STEPS", help=text)
    text = "go on from the checkpoint in --output; force: with other settings, too"
    words: dict[str, Any] = dict(nargs="?", const=True, choices=(True, "force"))
    option("--resume", **words, default=False, metavar="force", help=text)
    text = "float16 or bfloat16, the default, for what need not be float32"
    words = dict(nargs="?", const="bfloat16", choices=("float16", "bfloat16"))
    option("--mixed-precision", **words, default="float32", help=text)
    option("--jit", action="store_true", default=None, help="compile steps with XLA")
    text = "the same bits in every run on the same machine; slower"
    option("--deterministic", action="store_true", help=text)
    text = "say what would be trained, look at a batch, write nothing"
    option("--dry-run", action="store_true", help=text)
