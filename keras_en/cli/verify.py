"""`keras-en verify`: an artefact against its model."""

import argparse
from pathlib import Path
from typing import Any

from keras_en.cli.options import (
    NotEqual,
    add_artefact,
    add_command,
    add_gates,
    add_model,
)
from keras_en.export import ParityReport
from keras_en.export import verify as compare
from keras_en.export.serving import Prepared, prepare


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = add_command(
        commands,
        "verify",
        run,
        help="compare a SavedModel or an ONNX file with its model",
        description="Runs what was exported as its servers do, and compares it with "
        "the model. The exit code is 1 if a gate fails.",
    )
    add_model(command)
    add_artefact(command)
    command.add_argument(
        "--overwrite", action="store_true", help="replace the file of --report"
    )
    add_gates(command)


def run(options: argparse.Namespace) -> None:
    check_report(options.report, options.overwrite)
    report = verified(options, prepare(options.model), options.artefact)
    show(report, options)
    if not report.passed:
        raise NotEqual(f"{len(report.failures)} checks failed")


def check_report(path: Path | None, overwrite: bool) -> None:
    """Raises `RuntimeError` unless a report can be written to `path`."""
    if path is None:
        return
    if path.suffix not in (".json", ".md"):
        raise RuntimeError(
            f"--report must be a file that ends in .json or .md. Received: {path}"
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise RuntimeError(
            f"--report must be new, or --overwrite. Received: {path}, which exists"
        )
    if not path.parent.is_dir():
        raise RuntimeError(
            f"--report must be in a folder that exists. Received: {path}"
        )


def verified(
    options: argparse.Namespace, prepared: Prepared, artefact: Path
) -> ParityReport:
    """The report of an artefact, with the options of `add_gates`."""
    report = compare(
        prepared,
        artefact,
        options.batches,
        options.sizes,
        options.atol,
        options.rtol,
        options.seed,
    )
    return report._replace(model=str(options.model))


def show(report: ParityReport, options: argparse.Namespace) -> None:
    """Prints a report, and writes it where it is wanted."""
    for check in report.checks:
        print(f"{check.gate}  {check.status:8}{check.name}: {check.detail}")
    if options.report:
        report.write(options.report)
        print(f"Written: {options.report}")
