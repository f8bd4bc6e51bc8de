"""`keras-en convert`: another normalization in a file."""

import zipfile
from pathlib import Path

import keras

from keras_en import files
from keras_en.surgery import replace_normalization
from keras_en.text import one_line


def run(source, to, out, initial_ratios=None, overwrite=False):
    """Loads a `.keras` file, replaces its normalizations and saves it as another,
    which is not compiled.

    Args:
        source: Path of the file.
        to, initial_ratios: As in `replace_normalization`.
        out: Path of the new file, which appears when it is whole.
        overwrite: Whether `out` may exist.

    Returns:
        The `Report` of `replace_normalization`.

    Raises:
        RuntimeError: A path is none of a `.keras` file, the file cannot be read or
            written, or its network cannot be converted. Nothing was written.
    """
    source, out = Path(source), Path(out)
    for name, path in (("MODEL", source), ("--out", out)):
        if path.suffix != ".keras":
            raise RuntimeError(
                f"{name} must be a path of a .keras file. Received: {path}"
            )
    if not source.is_file():
        raise RuntimeError(f"MODEL must be a file that exists. Received: {source}")
    if out.is_dir() or (out.exists() and not overwrite):
        hint = "a folder" if out.is_dir() else "which exists; --overwrite replaces it"
        raise RuntimeError(f"--out must be a new file. Received: {out}, {hint}")
    if not out.parent.is_dir():
        raise RuntimeError(f"--out must be in a folder that exists. Received: {out}")
    if not zipfile.is_zipfile(source):
        raise RuntimeError(f"MODEL must be a Keras file. Received: {source}")
    try:
        model = keras.models.load_model(source, compile=False)
        new, report = replace_normalization(
            model, to, initial_ratios=initial_ratios, return_report=True
        )
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RuntimeError(
            f"{source} cannot be converted: {one_line(error)}"
        ) from error
    if report.rebuilt_by_code:
        raise RuntimeError(
            f"{source} cannot be converted: a .keras file would not keep "
            f"{list(report.rebuilt_by_code)}, which the code of other layers makes"
        )
    # Keras looks at the ending.
    with files.staged(out, out.name) as staged:
        new.save(staged.path)
        staged.publish()
    return report
