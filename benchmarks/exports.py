"""Every network, exported from a file by the command line, with every gate.

    python benchmarks/exports.py [NAME ...]

Each network has open height and width, moving statistics of random images (inside the
network, so that activations are neither dead nor chaotic) and random ratios, and is
saved; then `keras-en export` writes a SavedModel and an ONNX file of it, each in a
process of its own, with batches 1, 7, 32 and two sizes. Writes `results/exports.md`.
Exits with 1 if a gate fails.
"""

import functools
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import timing

from keras_en import models, recalibrate, replace_normalization
from keras_en.keras_private import layers_of

SIZES = "64x64,96x80"
NORMS = ("en", "bn", "sn")


def mobilenet(norm, input_shape, **kwargs):
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=input_shape, include_top=False, pooling="avg"
    )
    return model if norm == "bn" else replace_normalization(model, norm)


NETWORKS = {
    "CifarResNet20": models.CifarResNet20,
    "ShuffleNetV2 x0.5": functools.partial(models.ShuffleNetV2, width=0.5),
    "MobileNetV2, replaced": mobilenet,
    "InceptionV2": models.InceptionV2,
    "ResNet50": models.ResNet50,
    "DeepLabResNet50": models.DeepLabResNet50,
}


def build(name, norm):
    keras.utils.set_random_seed(0)
    kwargs = {"input_shape": (None, None, 3), "norm": norm}
    if name != "MobileNetV2, replaced":
        kwargs["classifier_activation"] = None
    if name not in ("MobileNetV2, replaced", "CifarResNet20", "DeepLabResNet50"):
        kwargs["weights"] = None
    model = NETWORKS[name](**kwargs)
    rng = np.random.default_rng(0)
    for layer in layers_of(model):
        if type(layer).__name__.endswith("Normalization"):
            for variable in layer.trainable_variables:
                # More lets the ratios of deep layers jump with the last bit of x.
                wide = 0.05 if "ratio" in variable.path else 0.1
                variable.assign_add(rng.normal(0, wide, variable.shape))
    images = rng.normal(size=(16, 64, 64, 3)).astype("float32")
    recalibrate(model, images, batch_size=16)
    return model


def exported(source, to, folder):
    """The report of `keras-en export`, and whether it wrote the artefact."""
    out = folder / ("m.onnx" if to == "onnx" else "served")
    report = folder / f"{to}.json"
    command = [sys.executable, "-m", "keras_en.cli", "export", source, "--to", to]
    command += ["--out", out, "--report", report, "--sizes", SIZES]
    if to == "onnx":
        command += ["--dynamic", "batch,height,width"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if not report.is_file():
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(report.read_text()), done.returncode == 0 and out.exists()


def row(name, norm, to, report, written):
    def most(key, kinds):
        values = [
            check["measured"].get(key, 0.0)
            for check in report["checks"]
            if check["gate"] == 4 and check["name"].startswith(kinds)
        ]
        return f"{max(values):.1e}" if values else ""

    failed = [c for c in report["checks"] if c["status"] == "FAILED"]
    skipped = [c["name"] for c in report["checks"] if c["status"] == "not run"]
    nodes = next(c["measured"] for c in report["checks"] if c["name"] == "nodes")
    text = (
        "passed"
        if report["passed"] and written
        else "; ".join(f"{c['gate']} {c['name']}: {c['detail']}" for c in failed)
    )
    cells = [
        name,
        norm,
        to,
        text,
        most("difference", "random"),
        most("difference", ("constant", "one pixel")),
        most("difference", "offset"),
        most("error", "random"),
        most("model_error", "random"),
        ", ".join(str(n) for n in nodes.values()),
        ", ".join(skipped),
    ]
    print(" | ".join(cells), flush=True)
    return "| " + " | ".join(cells) + " |"


def main():
    names = sys.argv[1:] or list(NETWORKS)
    head = [
        "network",
        "norm",
        "to",
        "gates",
        "random",
        "constant, one pixel",
        "offset 1e4",
        "random, from float64",
        "the model, from float64",
        "nodes a normalization, at most",
        "not run",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    notes = [
        "- columns of numbers: largest difference of a logit to the model's",
        f"- batches 1, 7, 32; sizes {SIZES}; tolerances 1e-5 + 1e-4 of the logit, or",
        "  twice what rounding does to the model",
    ]
    passed = True
    for norm, name in itertools.product(NORMS, names):
        with tempfile.TemporaryDirectory() as work:
            source = Path(work, "model.keras")
            build(name, norm).save(source)
            keras.backend.clear_session()
            for to in ("saved_model", "onnx"):
                report, written = exported(source, to, Path(work))
                passed &= report["passed"] and written
                lines.append(row(name, norm, to, report, written))
                # An hour in all: what is there so far.
                timing.write("exports", "Exports of every network", lines, notes)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
