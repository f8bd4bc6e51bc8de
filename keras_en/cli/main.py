"""`keras-en`: the command line."""

import argparse
import sys
from pathlib import Path

from keras_en.cli import convert, quickstart, train
from keras_en.cli import export as ship
from keras_en.cli.options import integer, share
from keras_en.models import norms, summary
from keras_en.training import strategies
from keras_en.training.recipes import digits
from keras_en.version import __version__


def main(arguments=None):
    """Runs `keras-en` and returns its exit code.

    0: done. 1: an artefact is not equal to its model. 2: wrong usage, one line on
    standard error. 130: interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print(f"\nkeras-en: interrupted; {options.interrupted}", file=sys.stderr)
        return 130
    except (OSError, RuntimeError) as error:
        print(f"keras-en: error: {error}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-en", description="Exemplar Normalization for Keras 3."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser(
        "quickstart",
        help="train a small network on handwritten digits, explain and export it",
        description="Trains a residual network on scikit-learn's handwritten digits "
        "(no download), evaluates it, draws the ratios it learned and exports it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument(
        "--output", type=Path, default=Path("runs/quickstart"), help="folder of the run"
    )
    _add_recipe(command)
    command.add_argument(
        "--overwrite", action="store_true", help="replace the run in --output"
    )
    command.set_defaults(run=_quickstart, interrupted="nothing was written")
    command = commands.add_parser(
        "train",
        help="train that network on one device, many, or many hosts, with checkpoints",
        description="Trains the network of the quickstart under a strategy of "
        "tf.distribute; the result does not depend on how batches are split. Start "
        "a process a worker for --strategy multiworker, each with its TF_CONFIG.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument(
        "--output", type=Path, default=Path("runs/train"), help="folder of the run"
    )
    _add_recipe(command)
    command.add_argument(
        "--batch-size",
        type=integer(1),
        default=digits.BATCH_SIZE,
        help="images of a global batch",
    )
    command.add_argument(
        "--strategy", choices=strategies.NAMES, default="none", help="see tf.distribute"
    )
    command.add_argument(
        "--replicas",
        type=integer(1),
        help="of --strategy mirrored; default: all GPUs, or 2 logical CPUs",
    )
    command.add_argument(
        "--checkpoint-every",
        type=integer(1),
        metavar="STEPS",
        help="steps between checkpoints; default: at the end of each epoch only",
    )
    command.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in --output"
    )
    command.set_defaults(
        run=_train, interrupted="--resume goes on from the last checkpoint"
    )
    command = commands.add_parser(
        "convert",
        help="put another normalization into the network of a .keras file",
        description="Replaces every normalization layer; all other weights, and what "
        "the old layers had learned, are kept. Prints what became of each.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="a .keras file")
    command.add_argument("--to", choices=norms.NAMES, default="en", help="the new one")
    command.add_argument(
        "--out", type=Path, required=True, metavar="NEW", help="the new .keras file"
    )
    command.add_argument(
        "--initial-ratio",
        type=share,
        action="append",
        metavar="NAME=SHARE",
        help="ratio that a normalizer starts with, such as batch=1.0; may be repeated; "
        "default: 0.9 for the old one",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace the file of --out"
    )
    command.set_defaults(run=_convert, interrupted="nothing was written")
    ship.add_commands(commands)
    command = commands.add_parser(
        "models",
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
    command.set_defaults(run=_models, interrupted="nothing was written")
    return parser


def _add_recipe(command):
    command.add_argument(
        "--seed", type=integer(0, 2**32 - 1), default=0, help="random seed"
    )
    command.add_argument(
        "--epochs", type=integer(1), default=digits.EPOCHS, help="training epochs"
    )
    command.add_argument(
        "--norm", choices=norms.NAMES, default="en", help="normalization of the network"
    )


def _quickstart(options):
    results = quickstart.run(
        options.output, options.seed, options.epochs, options.norm, options.overwrite
    )
    print(f"\nTest accuracy: {results['test_accuracy']:.2%}")
    print("Largest difference to the model, on the test images:")
    for name, difference in results["differences"].items():
        print(f"  {options.output / name}  {difference:.1e}")
    print("Also written:")
    for name in quickstart.ARTEFACTS:
        path = options.output / name
        if path.is_file() and name not in results["differences"]:
            print(f"  {path}")
    return 0


def _train(options):
    arguments = vars(options)
    del arguments["run"], arguments["interrupted"]
    try:
        results = train.run(**arguments, verbose="auto" if sys.stdout.isatty() else 2)
    except ValueError as error:
        raise RuntimeError(str(error)) from error
    if results["chief"]:
        print(f"\nTest accuracy: {results['test_accuracy']:.2%}")
        print("Written:")
        for name in train.FILES:
            print(f"  {options.output / name}")
    return 0


def _convert(options):
    ratios = dict(options.initial_ratio) if options.initial_ratio else None
    report = convert.run(
        options.model, options.to, options.out, ratios, options.overwrite
    )
    print(report)
    print(f"Written: {options.out}")
    return 0


def _models(options):
    networks = options.network or list(summary.NETWORKS)
    print(summary.markdown(summary.summary_table(networks, options.norm)))
    return 0
