"""Runs `keras-en verify`."""

import argparse
import sys
from pathlib import Path

from keras_en import export
from keras_en.cli.options import NotEqual
from keras_en.cli.terminal import is_quiet, progress, say
from keras_en.export.serving import Prepared, prepare


def run(options: argparse.Namespace) -> None:
    check_report(options.report, options.overwrite)
    progress(f"Reading {options.model}")
    report = verified(options, prepare(options.model), options.artefact)
    if options.json:
        say(report.to_json())
    conclude(report, options)
    if not options.json:
        say(f"Equal: {len(report.checks)} checks, none failed")


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
    progress(f"Comparing {path.name} with the model, as its servers run it")
    report = export.verify(prepared, path, **gates, progress=_say_check)
    return report._replace(model=str(options.model))


def _say_check(check):
    progress(_line(check))


def _line(check):
    return f"{check.gate}  {check.status:8}{check.name}: {check.detail}"


def conclude(
    report: export.ParityReport, options: argparse.Namespace, consequence: str = ""
) -> None:
    """Writes a report where it is wanted, and says what failed.

    Raises:
        NotEqual: A gate failed; it says so, and the `consequence`.
    """
    if options.report:
        report.write(options.report)
        progress(f"Written: {options.report}")
    if not report.passed:
        if is_quiet():
            for check in report.failures:
                say(_line(check), file=sys.stderr)
        raise NotEqual(f"{len(report.failures)} checks failed{consequence}")
