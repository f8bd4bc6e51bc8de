"""Exported ResNet-50s: Exemplar Normalization against BatchNormalization.

    python benchmarks/export_speed.py [--rounds 15] [--size 224]

Runs ONNX files in onnxruntime and SavedModels in the graph-mode loader, each with the
settings that a user gets, interleaved, batches 1 and 8. "floor" is the least that
operators without fusion can do for a normalization with statistics of each sample: the
same network with `y = x * mean(x)`, one reading and one pass. Then where onnxruntime
spends its time. Writes `results/export_speed.md`.
"""

import argparse
import collections
import contextlib
import functools
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import timing

from keras_en import export
from keras_en.keras_private import layers_of
from keras_en.models import ResNet50

BATCHES = (1, 8)
TARGET = 1.25


class Floor(keras.layers.Layer):
    """`y = x * mean(x)`."""

    def __init__(self, axis=-1, name=None):
        super().__init__(name=name)

    def call(self, x):
        return x * keras.ops.mean(x, axis=(1, 2), keepdims=True)


NORMS = {"BN": "bn", "EN": "en", "floor": Floor}


def build(norm, size):
    """A ResNet-50 whose normalizations are nowhere trivial."""
    keras.utils.set_random_seed(0)
    model = ResNet50(weights=None, norm=norm, input_shape=(size, size, 3))
    rng = np.random.default_rng(0)
    for layer in layers_of(model):
        if type(layer).__name__.endswith("Normalization"):
            for variable in layer.variables:
                noise = rng.uniform(-0.1, 0.1, variable.shape)
                variable.assign_add(noise)
    return model


def onnx_runner(path, profile=None):
    options = onnxruntime.SessionOptions()
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    return session, lambda x: session.run(None, {"inputs": x})


def saved_model_runner(path):
    """The graph-mode loader, as TensorFlow Serving's."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
    signature = loaded.signature_def["serving_default"]
    call = session.make_callable(
        [signature.outputs["outputs"].name], [signature.inputs["inputs"].name]
    )
    return lambda x: call(x)


def profile(path, x, folder, runs=6):
    """Milliseconds of each kind of operator in a run."""
    session, run = onnx_runner(path, folder / path.stem)
    for _ in range(runs):
        run(x)
    events = json.loads(Path(session.end_profiling()).read_text())
    times = collections.Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"] / 1000 / runs
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.size, options.size, 3)
    inputs = {n: rng.normal(size=(n, *shape)).astype("float32") for n in BATCHES}
    lines = [
        f"| {options.size} x {options.size}, over BN | batch | EN | floor |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as work:
        folder, runners, nodes = Path(work), collections.defaultdict(dict), {}
        for name, norm in NORMS.items():
            model = build(norm, options.size)
            path = export.export_onnx(model, folder / f"{name}.onnx")
            nodes[name] = len(export.inspect(path).node_names)
            runners["onnxruntime"][name] = onnx_runner(path)[1]
            path = export.export_saved_model(
                model, folder / name, signatures=["serving_default"]
            )
            runners["SavedModel, Session"][name] = saved_model_runner(path)
            keras.backend.clear_session()
        for runner, calls in runners.items():
            for n, x in inputs.items():
                bound = {k: functools.partial(call, x) for k, call in calls.items()}
                # A server runs one model; half a second of it, because the threads of
                # the model before go on spinning for the length of a call or two.
                times = timing.interleave(bound, options.rounds, seconds=0.5)
                ratios = {k: timing.ratio(v, times["BN"]) for k, v in times.items()}
                lines.append(
                    f"| {runner} | {n} | {ratios['EN']:.2f} | {ratios['floor']:.2f} |"
                )
                print(lines[-1], flush=True)
        lines += [
            "",
            f"At most {TARGET} was asked for. Nodes of the ONNX files: "
            + ", ".join(f"{k} {v}" for k, v in nodes.items())
            + ".",
            "",
            "Share of BN's time that onnxruntime spends in each kind of operator, "
            "profiled (kernels only):",
            "",
        ]
        for n, x in inputs.items():
            lines += table(folder, n, x)
    with contextlib.suppress(BrokenPipeError):
        print("\n".join(lines))
    timing.write("export_speed", "Speed of exported ResNet-50s", lines)


def table(folder, n, x):
    times = {name: profile(folder / f"{name}.onnx", x, folder) for name in NORMS}
    whole = sum(times["BN"].values())
    kinds = sorted(times["EN"], key=times["EN"].get, reverse=True)
    rows = [f"| batch {n} | BN | EN | floor |", "|---|---|---|---|"]
    rest = dict.fromkeys(NORMS, 0.0)
    for kind in kinds:
        shares = {name: times[name][kind] / whole for name in NORMS}
        if shares["EN"] < 0.01:
            rest = {name: rest[name] + shares[name] for name in NORMS}
            continue
        cells = " | ".join(f"{shares[name]:.2f}" for name in NORMS)
        rows.append(f"| {kind} | {cells} |")
    cells = " | ".join(f"{rest[name]:.2f}" for name in NORMS)
    totals = " | ".join(f"{sum(times[k].values()) / whole:.2f}" for k in NORMS)
    return [*rows, f"| others | {cells} |", f"| all | {totals} |", ""]


if __name__ == "__main__":
    main()
