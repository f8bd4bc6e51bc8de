"""Runs `keras-en convert`."""

import argparse

from keras_en import files
from keras_en.cli.terminal import progress, say, say_json
from keras_en.export.serving import loaded
from keras_en.surgery import replace_normalization


def run(options: argparse.Namespace) -> None:
    source, out = options.model, options.out
    _check_paths(source, out, options.overwrite)
    progress(f"Reading {source}")
    ratios = dict(options.initial_ratio) if options.initial_ratio else None
    new, report = replace_normalization(
        loaded(source), options.to, initial_ratios=ratios, return_report=True
    )
    if report.rebuilt_by_code:
        raise RuntimeError(
            f"{source} cannot be converted: a .keras file would not keep "
            f"{list(report.rebuilt_by_code)}, which the code of other layers makes"
        )
    # Keras looks at the ending.
    with files.staged(out, out.name) as staged:
        new.save(staged.path)
        staged.publish()
    if options.json:
        say_json({"written": str(out), **report._asdict()})
        return
    say(report)
    say(f"Written: {out}")


def _check_paths(source, out, overwrite):
    for name, path in (("MODEL", source), ("--out", out)):
        if path.suffix != ".keras":
            raise _wrong(name, "a path of a .keras file", path)
    if not source.is_file():
        raise _wrong("MODEL", "a file that exists", source)
    if out.is_dir() or (out.exists() and not overwrite):
        hint = "a folder" if out.is_dir() else "which exists; --overwrite replaces it"
        raise _wrong("--out", "a new file", f"{out}, {hint}")
    if not out.parent.is_dir():
        raise _wrong("--out", "in a folder that exists", out)


def _wrong(name, allowed, received):
    return RuntimeError(f"{name} must be {allowed}. Received: {received}")
