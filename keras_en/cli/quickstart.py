"""Runs `keras-en quickstart`."""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_en import export, files, training
from keras_en.analysis import RatioHistory, exemplar_layers
from keras_en.arguments import check_backend, check_installed
from keras_en.cli import options as shared
from keras_en.cli.explanation import explain
from keras_en.cli.terminal import is_quiet, progress, say
from keras_en.training import experiment
from keras_en.training.recipes import recipe as recipes

EXPORTED = ("saved_model", "model.onnx", "ratios")
ARTEFACTS = (*experiment.FILES, *experiment.SOMETIMES, *EXPORTED)
PAGE = "ratios/report.html"
REQUIRED = (
    "sklearn",
    "yaml",
    "matplotlib",
    "jinja2",
    "tf2onnx",
    "onnxruntime",
    "tensorflow_serving",
)
EXPORTS = """
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
    """What is said at the end.

    - `differences`: of each artefact the largest one of a probability.
    - `ratios`: by layer and normalizer, the mean over the test images; empty if the
      network has none.
    - `warnings`: what a reader of the accuracy should know.
    """

    test_accuracy: float
    differences: dict[str, float]
    ratios: dict[str, dict[str, float]]
    warnings: tuple[str, ...]


def run(options: argparse.Namespace) -> None:
    output = options.output
    results = quickstart(
        output, options.seed, options.epochs, options.norm, options.overwrite
    )
    say(f"\nTest accuracy: {results.test_accuracy:.2%}")
    for text in results.warnings:
        say(f"Warning: {text}")
    if (output / PAGE).is_file():
        say(f"What the network chose: {output / PAGE}")
    say("Largest difference to the model, on the test images:")
    for name, difference in results.differences.items():
        say(f"  {output / name}  {difference:.1e}")
    say("Also written:")
    for name in ARTEFACTS:
        if (output / name).is_file() and name not in results.differences:
            say(f"  {output / name}")


def quickstart(
    output: str | os.PathLike[str] = "runs/quickstart",
    seed: int = 0,
    epochs: int = shared.EPOCHS,
    norm: str = "en",
    overwrite: bool = False,
) -> Results:
    """Trains a residual network of 8 layers on handwritten digits and exports it.

    Writes into `output` what `keras_en.training.experiment.train` writes of the recipe
    digits, `saved_model/1/` and `model.onnx`; with norm "en" also
    `ratios/report.html`, the page of what the network chose. Everything is written to a
    hidden folder beside `output` and moved there at the end: `output` holds a whole
    run or nothing new, whenever the run is interrupted.

    Args:
        output: Folder of the run.
        seed: Integer, the seed of weights and shuffling.
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
    check_backend("The quickstart writes a SavedModel: it needs the TensorFlow backend")
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
    files.check_folder(output, ARTEFACTS, overwrite, "--overwrite replaces it")


def write_run(folder: Path, seed: int, epochs: int, norm: str) -> Results:
    """Everything that `quickstart` does, in a folder that is there."""
    recipe = recipes.load("digits", [f"norm.name={norm}"]).lasting(epochs)
    settings = experiment.Settings(
        output=folder,
        seed=seed,
        verbose=0 if is_quiet() else "auto",
        progress=progress,
        command=f"keras-en quickstart --norm {norm} --seed {seed} --epochs {epochs}",
    )
    trained = experiment.train(recipe, settings)
    assert trained is not None, "one process, which writes"
    model = keras.models.load_model(folder / experiment.MODEL, compile=False)
    test = training.digits()["test"]
    results = Results(
        trained.scores.metrics["top1"],
        _export(model, folder, test.images),
        _explain(model, folder, test, seed),
        trained.warnings,
    )
    report = folder / "report.md"
    text = report.read_text(encoding="utf-8") + _report(results)
    report.write_text(text, encoding="utf-8")
    return results


def _export(model, folder, images):
    """Writes every artefact; the largest difference of each on `images`."""
    expected = model.predict(images, batch_size=len(images), verbose=0)
    progress("Exporting a SavedModel")
    version = export.export_saved_model(model, folder / "saved_model")
    progress("Exporting an ONNX file")
    onnx = export.export_onnx(model, folder / "model.onnx")
    progress("Running both as their servers do")
    outputs = {
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
            ("training", f"seed {seed}"),
        ],
        seed=seed,
    )
    means = zip(ratios.layers, ratios.means, strict=True)
    return {
        layer.path: dict(zip(layer.pool, mean.tolist(), strict=True))
        for layer, mean in means
    }


def _report(results):
    text = EXPORTS
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
