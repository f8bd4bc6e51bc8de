"""The main job: train, evaluate, explain and export one small network."""

import importlib.util
import os
import platform
import sys
import time
from pathlib import Path

import keras
import numpy as np

from keras_en import export, files
from keras_en.analysis import collect_ratios, exemplar_layers, plot_class_ratios
from keras_en.training import batches, digits
from keras_en.training.recipes.digits import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATE,
    WEIGHT_DECAY,
    compiled_model,
    write_history,
)
from keras_en.version import __version__

ARTEFACTS = (
    "model.keras",
    "saved_model",
    "model.onnx",
    "ratios.png",
    "history.csv",
    "report.md",
)
REQUIRED = (
    "sklearn",
    "matplotlib",
    "tf2onnx",
    "onnxruntime",
    "tensorflow_serving",
)


def run(output="runs/quickstart", seed=0, epochs=EPOCHS, norm="en", overwrite=False):
    """Trains a residual network of 8 layers on handwritten digits and exports it.

    Writes into `output`: `model.keras`, `saved_model/1/`, `model.onnx`, `ratios.png`
    (norm "en" only), `history.csv` and `report.md`. Everything is written to a
    hidden folder beside `output` and moved there at the end: `output` holds a whole
    run or nothing new, whenever the run is interrupted.

    Args:
        output: Folder of the run.
        seed: Integer, the seed of weights, shuffling and split.
        epochs: Positive integer.
        norm: Name of the normalization, see `keras_en.models.norms`.
        overwrite: If `True`, replace the run that `output` holds.

    Returns:
        Dictionary of the results that `report.md` shows.

    Raises:
        FileExistsError: `output` holds a run and `overwrite` is `False`, or it holds
            other files, or is the working folder or a mount point, which cannot be
            replaced.
        RuntimeError: The backend is not TensorFlow, or a package is missing.
    """
    output = Path(output).resolve()
    _check_environment()
    _check_output(output, overwrite)
    with files.staged(output) as staged:
        staged.path.mkdir()
        results = _run(staged.path, seed, epochs, norm)
        _check_output(output, overwrite)
        staged.publish()
    return results


def _check_environment():
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "The quickstart exports a SavedModel and needs the TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"The quickstart needs {', '.join(missing)}: pip install 'keras-en[all]'"
        )


def _check_output(output, overwrite):
    if output.is_dir() and (Path.cwd().is_relative_to(output) or output.is_mount()):
        raise FileExistsError(
            "--output must be a folder that can be replaced, not the working folder, "
            f"one above it or a mount point. Received: {output}"
        )
    check_folder(output, ARTEFACTS, overwrite, "--overwrite replaces it")


def check_folder(output, artefacts, again, otherwise):
    """Raises `FileExistsError` unless `output` is new, empty or holds a run, which it
    may only `again`; `otherwise` is the option that says so."""
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"--output must be a folder. Received: {output}, a file")
    entries = {entry.name for entry in output.iterdir()}
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


def _run(folder, seed, epochs, norm):
    started = time.perf_counter()
    keras.utils.set_random_seed(seed)
    data = digits(seed)
    model = compiled_model(data["train"], norm, epochs, BATCH_SIZE)
    history = model.fit(
        batches(data["train"], BATCH_SIZE, seed, shift=1),
        validation_data=tuple(data["validation"]),
        shuffle=False,
        epochs=epochs,
        verbose=1 if sys.stdout.isatty() else 2,
    ).history
    write_history(folder / "history.csv", history)

    test = data["test"]
    loss, accuracy = model.evaluate(*test, verbose=0)
    results = {
        "command": f"keras-en quickstart --norm {norm} --seed {seed} --epochs {epochs}",
        "model": model.name,
        "parameters": model.count_params(),
        "test_loss": loss,
        "test_accuracy": accuracy,
        "differences": _export(model, folder, test.images),
        "ratios": {},
    }
    layers = exemplar_layers(model)
    if layers:
        ratios = collect_ratios(model, test.images)
        pool = next(iter(layers.values())).pool
        plot_class_ratios(
            ratios,
            pool,
            test.labels,
            folder / "ratios.png",
            title=f"Important ratios by layer and class, {len(test.labels)} digits",
        )
        results["ratios"] = {
            path: dict(zip(pool, values.mean(axis=0).tolist(), strict=True))
            for path, values in ratios.items()
        }
    results["seconds"] = time.perf_counter() - started
    (folder / "report.md").write_text(_report(results), encoding="utf-8")
    return results


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


def _report(results):
    lines = [
        "# Quickstart",
        "",
        f"`{results['command']}`",
        "",
        "| | |",
        "|---|---|",
        f"| test accuracy | {results['test_accuracy']:.2%} |",
        f"| test loss | {results['test_loss']:.4f} |",
        f"| model | {results['model']}, {results['parameters']:,} parameters |",
        "| data | scikit-learn digits, 8x8: 1,257 train, 180 validation, 360 test |",
        f"| recipe | SGD, Nesterov momentum 0.9, weight decay {WEIGHT_DECAY}, batch "
        f"{BATCH_SIZE}, learning rate {LEARNING_RATE} with cosine decay, random shifts "
        "of at most 1 pixel |",
        f"| time | {results['seconds']:.0f} s on {os.cpu_count()} CPU cores |",
        f"| versions | keras_en {__version__}, keras {keras.__version__}, "
        f"Python {platform.python_version()} |",
        "",
        "## Exports against the model, on the test images",
        "",
        "| artefact | largest difference of a probability |",
        "|---|---|",
    ]
    lines += [f"| {name} | {d:.1e} |" for name, d in results["differences"].items()]
    if results["ratios"]:
        pool = next(iter(results["ratios"].values()))
        lines += [
            "",
            "## Important ratios, mean over the test images",
            "",
            "![Important ratios by layer and class](ratios.png)",
            "",
            f"| layer | {' | '.join(pool)} |",
            "|---" * (len(pool) + 1) + "|",
        ]
        lines += [
            f"| {path} | {' | '.join(f'{value:.3f}' for value in row.values())} |"
            for path, row in results["ratios"].items()
        ]
    return "\n".join(lines) + "\n"
