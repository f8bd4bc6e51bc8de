"""`keras-en reproduce`: train a table of the paper and print it.

Trains every network of the table with every seed, one after the other, each in a
process of its own; finished ones are skipped, interrupted ones go on. Prints the table
in the paper's layout, its figures beside ours, and what EN gains over the others on the
same seeds; writes results.md, results.csv, curves.png and points.png. A .yaml file in
the place of a table's name is a grid of your own.
"""

import argparse
import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from keras_en import files
from keras_en.cli import options as shared
from keras_en.cli.options import say
from keras_en.training import comparison, reproduction
from keras_en.training.recipes import tables

RESULTS, CSV = "results.md", "results.csv"
FIGURES = {
    "curves.png": reproduction.plot_curves,
    "points.png": comparison.plot_points,
}


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    interrupted = "the same command goes on"
    command = shared.add_command(commands, "reproduce", __doc__, run, interrupted)
    option, names = command.add_argument, ", ".join(tables.table_names())
    option("table", metavar="TABLE", help=f"one of {names}, or a .yaml file")
    text = "small, the default: what two CPU cores and the data at hand can do; paper: "
    text += "the paper's, which takes GPUs and its data"
    option("--scale", choices=tables.SCALES, default="small", help=text)
    text = "as 0-4 or 0,1,2; default: those of each recipe"
    option("--seeds", type=_seeds, metavar="SEEDS", help=text)
    text = "runs whose row or column has this text; may be repeated"
    option("--only", action="append", default=[], metavar="TEXT", help=text)
    text = "change a key of every recipe; may be repeated"
    change: dict[str, Any] = dict(action="append", default=[], metavar="KEY=VALUE")
    option("--set", dest="overrides", **change, help=text)
    text = "milestones and warm-up move along"
    option("--epochs", type=shared.integer(1), metavar="N", help=text)
    text = "default: runs/TABLE-SCALE"
    option("--output", type=Path, metavar="FOLDER", help=text)
    text = "list the runs, and which are finished; train nothing"
    option("--dry-run", action="store_true", help=text)
    text = 'options of `keras-en train`, as --train="--jit --strategy mirrored"'
    option("--train", type=shlex.split, default=[], metavar="OPTIONS", help=text)


def run(options: argparse.Namespace) -> None:
    table = tables.load_table(options.table, options.scale)
    changes = [*options.overrides]
    if options.epochs is not None:
        changes.append(f"{options.epochs} epochs")
    if changes:
        parts = [
            part for part in (table.note, f"changed: {', '.join(changes)}") if part
        ]
        table = dataclasses.replace(table, note="; ".join(parts))
    output = options.output or Path("runs", f"{table.name}-{options.scale}")
    trainings = reproduction.trainings(
        table,
        output,
        options.seeds,
        options.only,
        options.overrides,
        options.epochs,
    )

    if not options.dry_run:
        for training in trainings:
            # Before anything is written.
            training.recipe.data.where()

    def line(text: str) -> None:
        say(f"{options.scale} scale: {text}")

    if table.note:
        line(f"not the paper's: {table.note}")
    for number, training in enumerate(trainings, start=1):
        place = f"[{number}/{len(trainings)}] {training.title}"
        if options.dry_run:
            line(f"{place}: {'finished' if training.is_finished else 'to do'}")
            continue
        before = training.is_finished
        _train(training, options.train)
        figures = training.figures().items()
        texts = ", ".join(f"{name} {value:.2f} %" for name, value in figures)
        line(f"{place}: {texts}{', finished before' if before else ''}")
        _write(table, trainings, output, options.scale)
    if options.dry_run:
        return
    say()
    for text in (output / RESULTS).read_text("utf-8").splitlines():
        if text:
            line(text)
    for name in (RESULTS, CSV, *FIGURES):
        if (output / name).is_file():
            line(f"written {output / name}")


def _seeds(text):
    first, sign, last = text.partition("-")
    parse = shared.integer(0, 2**32 - 1)
    if not sign:
        return shared.listed(parse, "integers")(text)
    values = list(range(parse(first), parse(last) + 1))
    if not values:
        raise argparse.ArgumentTypeError(
            f"must be FIRST-LAST, such as 0-4, or integers between commas. "
            f"Received: {text}"
        )
    return values


def _train(training, options):
    """Everything of a run that is not there yet, in processes of its own: what one
    leaves behind slows down no other."""
    folder = training.folder
    log = folder.with_name(f"{folder.name}.log")
    recipe = folder.with_name("recipe.yaml")
    text = training.recipe.to_yaml()
    if recipe.is_file() and recipe.read_text("utf-8") != text:
        raise ValueError(
            "--output must be a new folder, or hold runs of the same recipes, --epochs "
            f"and --set included. Received: {recipe}, which is another"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not recipe.is_file():
        files.write_text(recipe, text)
    if not training.is_finished:
        words = ["--seed", training.seed, "--output", folder, "--resume", *options]
        _run(["train", recipe, *words], log)
    for report, words in training.evaluations.items():
        if not report.is_file():
            _run(["evaluate", folder, *words, "--report", report], log)


def _run(words, log):
    """Runs a command of `keras-en`; what it prints goes to the end of a file."""
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_en.cli", *map(str, words)],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait()
        except BaseException:
            # Ctrl-C goes to both, SIGTERM to this process alone.
            process.terminate()
            process.wait()
            raise
    if code:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        raise RuntimeError(
            f"A run has ended with code {code}, see {log}: {lines[-1] if lines else ''}"
        )


def _write(table, trainings, output, scale):
    """All files, as far as runs are finished."""
    text = f"# {table.title}\n\nScale: {scale}.\n\n"
    text += reproduction.markdown(table, trainings)
    pairs = comparison.differences(table, trainings)
    if pairs:
        text += f"\n{comparison.markdown(pairs)}"
    files.write_text(output / RESULTS, text)
    files.write_text(output / CSV, reproduction.as_csv(trainings, scale))
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    title = f"{table.title}, {scale} scale"
    for name, plot in FIGURES.items():
        with files.staged(output / name, name) as staged:
            if plot(trainings, staged.path, title):
                staged.publish()
