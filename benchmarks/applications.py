"""Surgery on every network of `keras.applications` that holds BatchNormalization.

    python benchmarks/applications.py [NAME ...]

Each has random weights and the smallest input that it allows. Gamma, beta and moving
statistics lie within 0.05 of what they start with: much more makes deep networks that
were never trained chaotic, whatever normalizes them. Writes `results/applications.md`.
Exits with 1 if a network fails.
"""

import gc
import inspect
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import timing

from keras_en import ExemplarNormalization, replace_normalization

# The smallest input that is not 32.
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def names():
    """Those that hold BatchNormalization: neither VGG nor ConvNeXt does."""
    found = inspect.getmembers(keras.applications, inspect.isfunction)
    return [name for name, _ in found if not name.startswith(("VGG", "ConvNeXt"))]


def build(name):
    """The network, and images."""
    keras.utils.set_random_seed(0)
    size = SIZES.get(name, 32)
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3)
    )
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.variables:
                noise = rng.uniform(-0.05, 0.05, variable.shape)
                variable.assign_add(noise)
    return model, rng.uniform(0, 255, (8, size, size, 3)).astype("float32")


def measure(name):
    """A row of the table, and whether everything is as it must be."""
    model, x = build(name)
    new, report = replace_normalization(
        model, initial_ratios={"batch": 1.0}, return_report=True
    )
    old_layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    new_layers = list(new._flatten_layers())
    left = sum(isinstance(v, keras.layers.BatchNormalization) for v in new_layers)
    put = sum(isinstance(v, ExemplarNormalization) for v in new_layers)
    expected, found = (np.asarray(m(x, training=False)) for m in (model, new))
    scale = np.abs(expected).max()
    difference = np.abs(expected - found).max() / scale
    nudged = np.asarray(model(x * np.float32(1 + 1e-7), training=False))
    rounding = np.abs(expected - nudged).max() / scale
    # Every new layer on what the old one was given.
    pairs = [[layer.input, layer.output] for layer in old_layers]
    seen = keras.Model(model.input, pairs)(x, training=False)
    alone = 0.0
    for layer, (given, wanted) in zip(old_layers, seen, strict=True):
        wanted = np.asarray(wanted)
        got = np.asarray(new.get_layer(layer.name)(given, training=False))
        alone = max(alone, np.abs(got - wanted).max() / np.abs(wanted).max())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        new.save(path)
        again = np.asarray(keras.models.load_model(path)(x, training=False))
    kept = np.array_equal(again, found)

    new.compile(keras.optimizers.Adam(1e-3), "mse", run_eagerly=True)
    # Ratios move from the second step on, and what a share of 1e-8 scales not at all.
    kernels = [
        v
        for v in new.trainable_variables
        if "kernel" in v.name and not v.name.startswith("ratio")
    ]
    before = [v.numpy() for v in kernels]
    # Enough samples that stochastic depth does not drop a block for all of them.
    loss = new.train_on_batch(x, np.zeros_like(expected))
    moved = [
        not np.array_equal(v.numpy(), old)
        for v, old in zip(kernels, before, strict=True)
    ]
    trained = bool(np.isfinite(loss)) and all(moved)
    fine = difference < max(1e-4, 10 * rounding) and alone < 1e-5 and not left
    fine = fine and put == len(old_layers) == len(report.replaced)
    row = (
        f"| {name} | {x.shape[1]} | {put} of {len(old_layers)} | {difference:.1e} | "
        f"{rounding:.1e} | {alone:.1e} | "
        f"{'yes' if kept else 'NO'} | {'yes' if trained else 'NO'} |"
    )
    return row, fine and kept and trained


def main():
    rows, failed = [], []
    for name in sys.argv[1:] or names():
        row, fine = measure(name)
        print(row, flush=True)
        rows.append(row)
        if not fine:
            failed.append(name)
        keras.utils.clear_session()
        gc.collect()
    if not sys.argv[1:]:
        timing.write(
            "applications",
            "Surgery on keras.applications",
            [
                "`replace_normalization(model, initial_ratios={'batch': 1.0})`, random "
                "weights, smallest input. Difference: the largest one of the outputs, "
                "over the largest output; rounding: what one unit in the last place of "
                "the images does to those of the old network; one layer: the largest "
                "difference of a new layer on what the old one was given. File: a "
                "`.keras` round trip gives equal outputs. Trained: after one step of "
                "Adam the loss is finite and every kernel has moved.",
                "",
                "| network | input | replaced | difference | rounding | one layer "
                "| file | trained |",
                "|---|---|---|---|---|---|---|---|",
                *rows,
            ],
            notes=[],
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
