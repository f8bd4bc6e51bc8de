"""`keras-en quickstart`: train a small network on handwritten digits, explain and
export it.

Trains a residual network on scikit-learn's handwritten digits (no download), evaluates
it, shows in a page which normalization it chose, and exports it.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en import export, files, training
from keras_en.analysis import RatioHistory, RatioRecorder, exemplar_layers
from keras_en.arguments import check_installed
from keras_en.cli import options as shared
from keras_en.cli.explanation import explain
from keras_en.training.recipes import digits
from keras_en.version import __version__

ARTEFACTS = (
    *("model.keras", "saved_model", "model.onnx"),
    *("ratios", "ratios.npz", "history.csv", "report.md"),
)
PROBES, PAGE = 180, "ratios/report.html"
REQUIRED = (
    "sklearn",
    "matplotlib",
    "jinja2",
    "tf2onnx",
    "onnxruntime",
    "tensorflow_serving",
)
REPORT = f"""\
# Quickstart

`{{command}}`

| | |
|---|---|
| test accuracy | {{test_accuracy:.2%}} |
| test loss | {{test_loss:.4f}} |
| model | {{model}}, {{parameters:,}} parameters |
| data | scikit-learn digits, 8x8: 1,257 train, 180 validation, 360 test |
| recipe | SGD, Nesterov momentum 0.9, weight decay {digits.WEIGHT_DECAY}, batch \
{digits.BATCH_SIZE}, learning rate {digits.LEARNING_RATE} with cosine decay, random \
shifts of at most 1 pixel |
| time | {{seconds:.0f}} s on {os.cpu_count()} CPU cores |
| versions | keras_en {__version__}, keras {keras.__version__}, \
Python {platform.python_version()} |

## Exports against the model, on the test images

| artefact | largest difference of a probability |
|---|---|
"""
RATIOS = f"""
## Important ratios, mean over the test images

[All figures]({PAGE}), as files in `ratios/figures`.

![Important ratios by layer](ratios/figures/layers.png)

"""


class Results(NamedTuple):
    """What `report.md` shows.

    - `differences`: of each artefact the largest one of a probability.
    - `ratios`: by layer and normalizer, the mean over the test images; empty if the
      network has none.
    """

    command: str
    model: str
    parameters: int
    test_loss: float
    test_accuracy: float
    differences: dict[str, float]
    ratios: dict[str, dict[str, float]]
    seconds: float


def add(commands: Any) -> None:
    """Adds the command to the subparsers of `keras-en`."""
    command = shared.add_command(commands, "quickstart", __doc__, run)
    shared.add_recipe(command, "runs/quickstart")
    shared.add_overwrite(command, "replace the run in --output")


def run(options: argparse.Namespace) -> None:
    output = options.output
    results = quickstart(
        output, options.seed, options.epochs, options.norm, options.overwrite
    )
    print(f"\nTest accuracy: {results.test_accuracy:.2%}")
    if (output / PAGE).is_file():
        print(f"What the network chose: {output / PAGE}")
    print("Largest difference to the model, on the test images:")
    for name, difference in results.differences.items():
        print(f"  {output / name}  {difference:.1e}")
    print("Also written:")
    for name in ARTEFACTS:
        if (output / name).is_file() and name not in results.differences:
            print(f"  {output / name}")


def quickstart(
    output: str | os.PathLike[str] = "runs/quickstart",
    seed: int = 0,
    epochs: int = digits.EPOCHS,
    norm: str = "en",
    overwrite: bool = False,
) -> Results:
    """Trains a residual network of 8 layers on handwritten digits and exports it.

    Writes into `output`: `model.keras`, `saved_model/1/`, `model.onnx`, `history.csv`
    and `report.md`; with norm "en" also `ratios/report.html`, the page of what the
    network chose, and `ratios.npz`, its ratios by epoch. Everything is written to a
    hidden folder beside `output` and moved there at the end: `output` holds a whole
    run or nothing new, whenever the run is interrupted.

    Args:
        output: Folder of the run.
        seed: Integer, the seed of weights, shuffling and split.
        epochs: Positive integer.
        norm: Name of the normalization, see `keras_en.models.norms`.
        overwrite: If `True`, replace the run that `output` holds.

    Returns:
        `Results`, which `report.md` shows.

    Raises:
        FileExistsError: `output` holds a run and `overwrite` is `False`, or it holds
            other files, or is the working folder or a mount point, which cannot be
            replaced.
        RuntimeError: The backend is not TensorFlow, or a package is missing.
    """
    output = Path(output).resolve()
    shared.check_tensorflow("The quickstart exports a SavedModel and")
    check_installed("The quickstart", REQUIRED)
    _check_output(output, overwrite)
    with files.staged(output) as staged:
        staged.path.mkdir()
        results = write_run(staged.path, seed, epochs, norm)
        _check_output(output, overwrite)
        staged.publish()
    return results


def _check_output(output, overwrite):
    if output.is_dir() and (Path.cwd().is_relative_to(output) or output.is_mount()):
        raise FileExistsError(
            "--output must be a folder that can be replaced, not the working folder, "
            f"one above it or a mount point. Received: {output}"
        )
    check_folder(output, ARTEFACTS, overwrite, "--overwrite replaces it")


def check_folder(
    output: Path, artefacts: Sequence[str], again: bool, otherwise: str
) -> None:
    """Raises `FileExistsError` unless `output` is new, empty or holds a run, which it
    may only `again`; `otherwise` is the option that says so."""
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"--output must be a folder. Received: {output}, a file")
    # A killed process may have left what it was writing.
    names = (entry.name for entry in output.iterdir())
    entries = {name for name in names if not name.startswith(files.PARTIAL)}
    foreign = sorted(entries.difference(artefacts))
    if foreign:
        raise FileExistsError(
            "--output must be a new or empty folder, or hold a run only. "
            f"Received: {output}, which holds {', '.join(foreign[:5])}"
        )
    if entries and not again:
        raise FileExistsError(
            f"--output must not hold a run already; {otherwise}. Received: {output}"
        )


def write_run(folder: Path, seed: int, epochs: int, norm: str) -> Results:
    """Everything that `quickstart` does, in a folder that is there."""
    started = time.perf_counter()
    keras.utils.set_random_seed(seed)
    data = training.digits(seed)
    test = data["test"]
    model = _trained(folder, data, seed, epochs, norm)
    loss, accuracy = model.evaluate(*test, verbose=0)
    results = Results(
        f"keras-en quickstart --norm {norm} --seed {seed} --epochs {epochs}",
        model.name,
        model.count_params(),
        loss,
        accuracy,
        _export(model, folder, test.images),
        _explain(model, folder, test, seed),
        time.perf_counter() - started,
    )
    (folder / "report.md").write_text(_report(results), encoding="utf-8")
    return results


def _trained(folder, data, seed, epochs, norm):
    model = digits.compiled_model(data["train"], norm, epochs, digits.BATCH_SIZE)
    history = model.fit(
        training.batches(data["train"], digits.BATCH_SIZE, seed, shift=1),
        validation_data=tuple(data["validation"]),
        shuffle=False,
        epochs=epochs,
        callbacks=_recorders(model, folder, data["validation"], epochs),
        verbose=1 if sys.stdout.isatty() else 2,
    ).history
    digits.write_history(folder / "history.csv", history)
    return model


def _recorders(model, folder, validation, epochs):
    """What notes the ratios of some images in six epochs or so, if there are any."""
    if not exemplar_layers(model):
        return []
    images, labels = validation.images[:PROBES], validation.labels[:PROBES]
    path, every = folder / "ratios.npz", max(1, epochs // 6)
    names = list("0123456789")
    return [RatioRecorder(images, labels, path, every=every, class_names=names)]


def _export(model, folder, images):
    """Writes every artefact; the largest difference of each on `images`."""
    expected = model.predict(images, batch_size=len(images), verbose=0)
    model.save(folder / "model.keras")
    version = export.export_saved_model(model, folder / "saved_model")
    onnx = export.export_onnx(model, folder / "model.onnx")
    reloaded = keras.models.load_model(folder / "model.keras")
    outputs = {
        "model.keras": reloaded.predict(images, batch_size=len(images), verbose=0),
        "saved_model/1": export.run_saved_model(version, images),
        "model.onnx": export.run_onnx(onnx, images),
    }
    return {
        name: float(np.abs(actual - expected).max()) for name, actual in outputs.items()
    }


def _explain(model, folder, test, seed):
    """The page about a network that has ratios; their means over the images."""
    if not exemplar_layers(model):
        return {}
    (folder / "ratios").mkdir()

    def batches(limit):
        yield test.images[:limit], test.labels[:limit]

    ratios = explain(
        folder / "ratios",
        model,
        batches,
        lambda x: x,
        f"{model.name} on digits",
        history=RatioHistory.load(folder / "ratios.npz"),
        class_names=list("0123456789"),
        facts=[
            ("model", "model.keras"),
            ("data", "scikit-learn's digits, test"),
            ("training", f"ratios by epoch: {PROBES} validation images, seed {seed}"),
        ],
        seed=seed,
    )
    means = zip(ratios.layers, ratios.means, strict=True)
    return {
        layer.path: dict(zip(layer.pool, mean.tolist(), strict=True))
        for layer, mean in means
    }


def _report(results):
    text = REPORT.format(**results._asdict())
    for name, difference in results.differences.items():
        text += f"| {name} | {difference:.1e} |\n"
    if results.ratios:
        pool = next(iter(results.ratios.values()))
        text += f"{RATIOS}| layer | {' | '.join(pool)} |\n"
        text += "|---" * (len(pool) + 1) + "|\n"
    for path, ratios in results.ratios.items():
        row = " | ".join(f"{value:.3f}" for value in ratios.values())
        text += f"| {path} | {row} |\n"
    return text
