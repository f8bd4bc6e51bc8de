"""What ratios cost, and what they save: collecting against `predict`, and a network
before and after `keras_en.analysis.simplify` in onnxruntime.

    python benchmarks/ratios.py runs/quickstart
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse

import keras
import numpy as np
import onnx
import onnxruntime
import timing

from keras_en import export
from keras_en.analysis import simplify
from keras_en.analysis.collect import Collector
from keras_en.models import CifarResNet, ResNet50
from keras_en.training import digits

# Limits of `simplify`: the distance of a ratio, and the change of an output.
LIMITS = ((0.01, 1e-3), (0.02, 1e-2))


def collecting(rounds):
    """Rows: all layers of a network against `predict`, on the same data."""
    rows = ["| network | layers | images | collecting / predict | least, most |"]
    rows.append("|---|---|---|---|---|")
    networks = {
        "CifarResNet(8), 32x32": (CifarResNet(8, input_shape=(32, 32, 3)), 2560, 128),
        "ResNet50, 96x96": (
            ResNet50(weights=None, input_shape=(96, 96, 3), classes=10, norm="en"),
            128,
            16,
        ),
    }
    for name, (model, count, batch) in networks.items():
        x = np.random.default_rng(0).normal(size=(count, *model.input_shape[1:]))
        x, collector = x.astype("float32"), Collector(model)
        calls = {
            "predict": lambda m=model, x=x, b=batch: m.predict(x, b, verbose=0),
            "collect": lambda c=collector, x=x, b=batch: c.collect(
                x, batch_size=b, verbose=0
            ),
        }
        times = timing.interleave(calls, rounds)
        ratios = times["collect"] / times["predict"]
        spread = f"{ratios.min():.2f}, {ratios.max():.2f}"
        layers = len(collector.layers)
        rows.append(
            f"| {name} | {layers} | {count} | {np.median(ratios):.2f} | {spread} |"
        )
        print(rows[-1], flush=True)
    return rows


def simplified(run, folder, rounds):
    """Rows: the quickstart's network, what became of it, and its time."""
    model, data = keras.models.load_model(run / "model.keras"), digits(0)
    test, networks, notes = data["test"], {"as trained": model}, []
    for threshold, change in LIMITS:
        name = f"ratios within {threshold}, outputs within {change}"
        new, report = simplify(
            model, *data["validation"][:1], threshold=threshold, max_change=change
        )
        networks[name] = new
        notes.append(
            f"- {name}: {'; '.join(map(' -> '.join, report.replaced.items()))}"
        )
    sessions, rows = {}, []
    expected = model.predict(test.images, verbose=0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, network in networks.items():
        path = folder / f"{len(sessions)}.onnx"
        export.export_onnx(network, path)
        sessions[name] = onnxruntime.InferenceSession(path, options)
        outputs = network.predict(test.images, verbose=0)
        left = sum(type(x).__name__ == "ExemplarNormalization" for x in network.layers)
        accuracy = (outputs.argmax(1) == test.labels).mean()
        cells = [name, left, f"{np.abs(outputs - expected).max():.1e}"]
        cells += [f"{accuracy:.2%}", f"{network.count_params():,}"]
        rows.append([*cells, len(onnx.load(path).graph.node)])
    for batch in (1, 32):
        x = test.images[:batch]
        calls = {
            name: lambda s=session, x=x: s.run(None, {s.get_inputs()[0].name: x})
            for name, session in sessions.items()
        }
        times = timing.interleave(calls, 10 * rounds)
        for row, name in zip(rows, sessions, strict=True):
            row.append(f"{timing.ratio(times[name], times['as trained']):.2f}")
    head = ["limits", "layers with a head", "change of an output", "test accuracy"]
    head += ["parameters", "ONNX nodes", "time, batch 1", "time, batch 32"]
    table = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, row))} |" for row in table] + ["", *notes]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a quickstart")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = ["## Collecting", "", *collecting(options.rounds)]
        lines += ["", "## The quickstart's network in onnxruntime, one thread", ""]
        lines += simplified(options.run, Path(folder), options.rounds)
    timing.write("ratios", "Ratios: cost and gain", lines)


if __name__ == "__main__":
    main()
