"""Runs `keras-en reproduce`."""

import argparse
import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path

from keras_en import files
from keras_en.cli.terminal import say
from keras_en.training import comparison, reproduction
from keras_en.training.recipes import tables
from keras_en.training.recipes.recipe import load

RESULTS, CSV = "results.md", "results.csv"
FIGURES = {
    "curves.png": reproduction.plot_curves,
    "points.png": comparison.plot_points,
}


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
    name = f"{table.name}-{table.scale}" if table.scale else table.name
    output = options.output or Path("runs", name)
    trainings = reproduction.trainings(
        table,
        output,
        options.seeds,
        options.only,
        options.overrides,
        options.epochs,
    )

    missing = _missing(trainings)
    if missing and not options.dry_run:
        raise ValueError(missing[0])

    def line(text: str) -> None:
        say(f"{table.scale} scale: {text}" if table.scale else text)

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
        _write(table, options, output)
    if options.dry_run:
        for text in missing:
            line(f"before it can run: {text}")
        return
    say()
    for text in (output / RESULTS).read_text("utf-8").splitlines():
        if text:
            line(text)
    for name in (RESULTS, CSV, *FIGURES):
        if (output / name).is_file():
            line(f"written {output / name}")


def _missing(trainings):
    """Why data of theirs cannot be looked for, before anything is written."""
    texts = []
    for training in trainings:
        for recipe in filter(None, (training.recipe, training.run.load_evaluated())):
            try:
                recipe.data.where()
            except ValueError as error:
                texts.append(str(error))
    return list(dict.fromkeys(texts))


def _train(training, options):
    """Everything of a run that is not there yet, in processes of its own: what one
    leaves behind slows down no other."""
    folder = training.folder
    log = folder.with_name(f"{folder.name}.log")
    recipe = folder.with_name("recipe.yaml")
    if recipe.is_file() and not _is_same(training):
        raise ValueError(
            "--output must be a new folder, or hold runs of the same recipes, --epochs "
            f"and --set included. Received: {recipe}, which is another"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not recipe.is_file():
        files.write_text(recipe, training.recipe.to_yaml())
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


def _is_same(training):
    """Whether what is in its folder was trained as it is to be."""
    recipe = training.folder.with_name("recipe.yaml")
    try:
        # Not its text: another version may have more keys, or say more about it.
        own = training.recipe.training_parts
        return recipe.is_file() and load(recipe).training_parts == own
    except (OSError, ValueError):
        return False


def _write(table, options, output):
    """All files, of all runs in the folder that are finished: other processes may train
    other seeds or rows of it."""
    trainings = reproduction.trainings(
        table,
        output,
        reproduction.seeds_in(output),
        overrides=options.overrides,
        epochs=options.epochs,
    )
    trainings = [each for each in trainings if _is_same(each)]
    words = ["keras-en", "reproduce", options.table]
    words += ["--scale", table.scale] if table.scale else []
    for change in options.overrides:
        words += ["--set", change]
    words += [] if options.epochs is None else ["--epochs", str(options.epochs)]
    words += [f"--train={shlex.join(options.train)}"] if options.train else []
    scale = f"Scale: {table.scale}. " if table.scale else ""
    text = f"# {table.title}\n\n{scale}`{shlex.join(words)}`\n\n"
    text += "".join(f"{line}\n\n" for line in reproduction.origin(trainings))
    text += reproduction.markdown(table, trainings)
    pairs = comparison.differences(table, trainings)
    if pairs:
        text += f"\n{comparison.markdown(pairs)}"
    files.write_text(output / RESULTS, text)
    files.write_text(output / CSV, reproduction.as_csv(trainings, table.scale))
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    title = f"{table.title}, {table.scale} scale" if table.scale else table.title
    for name, plot in FIGURES.items():
        with files.staged(output / name, name) as staged:
            if plot(trainings, staged.path, title):
                staged.publish()
