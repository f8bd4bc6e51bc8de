"""`keras-en verify`: compare a SavedModel or an ONNX file with its model.

Runs what was exported as its servers do, and compares it with the model. The exit code
is 1 if a gate fails.
"""

import argparse
from pathlib import Path
from typing import Any

from keras_en import export
from keras_en.cli import options as shared
from keras_en.export.serving import Prepared, prepare


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, "verify", __doc__, run)
    shared.add_model(command)
    shared.add_artefact(command)
    shared.add_overwrite(command, "replace the file of --report")
    shared.add_gates(command)


def run(options: argparse.Namespace) -> None:
    check_report(options.report, options.overwrite)
    conclude(verified(options, prepare(options.model), options.artefact), options)


def check_report(path: Path | None, overwrite: bool) -> None:
    """Raises `RuntimeError` unless a report can be written to `path`."""
    if path is None:
        return
    hint = ""
    if path.suffix not in (".json", ".md"):
        rule = "a file that ends in .json or .md"
    elif path.is_dir() or (path.exists() and not overwrite):
        rule, hint = "new, or --overwrite", ", which exists"
    elif not path.parent.is_dir():
        rule = "in a folder that exists"
    else:
        return
    raise RuntimeError(f"--report must be {rule}. Received: {path}{hint}")


def verified(
    options: argparse.Namespace, prepared: Prepared, path: Path
) -> export.ParityReport:
    """The report of an artefact, with the options of `add_gates`."""
    names = ("batches", "sizes", "atol", "rtol", "seed")
    gates = {name: getattr(options, name) for name in names}
    report = export.verify(prepared, path, **gates)
    return report._replace(model=str(options.model))


def conclude(
    report: export.ParityReport, options: argparse.Namespace, consequence: str = ""
) -> None:
    """Prints a report, and writes it where it is wanted.

    Raises:
        NotEqual: A gate failed; it says so, and the `consequence`.
    """
    for check in report.checks:
        line = f"{check.gate}  {check.status:8}{check.name}: {check.detail}"
        shared.say(line)
    if options.report:
        report.write(options.report)
        shared.say(f"Written: {options.report}")
    if not report.passed:
        raise shared.NotEqual(f"{len(report.failures)} checks failed{consequence}")
