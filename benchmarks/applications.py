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
from keras_en.keras_private import layers_of

# The smallest input that is not 32.
SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def names():
    """Those that hold BatchNormalization: neither VGG nor ConvNeXt does."""
    functions = inspect.getmembers(keras.applications, inspect.isfunction)
    return [name for name, _ in functions if not name.startswith(("VGG", "ConvNeXt"))]


def build(name):
    """The network, and images."""
    keras.utils.set_random_seed(0)
    size = SIZES.get(name, 32)
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3)
    )
    rng = np.random.default_rng(0)
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.variables:
                noise = rng.uniform(-0.05, 0.05, variable.shape)
                variable.assign_add(noise)
    return model, rng.uniform(0, 255, (8, size, size, 3)).astype("float32")


def largest(difference, expected):
    """The largest difference over the largest expected value."""
    return np.abs(difference).max() / np.abs(expected).max()


def of_type(model, kind):
    return [layer for layer in layers_of(model) if isinstance(layer, kind)]


def of_one_layer(model, new, x):
    """The largest difference of a new layer on the inputs of the old one."""
    old_layers = of_type(model, keras.layers.BatchNormalization)
    pairs = [[layer.input, layer.output] for layer in old_layers]
    values = keras.Model(model.input, pairs)(x, training=False)
    differences = [0.0]
    for layer, (inputs, expected) in zip(old_layers, values, strict=True):
        expected = np.asarray(expected)
        outputs = np.asarray(new.get_layer(layer.name)(inputs, training=False))
        differences.append(largest(outputs - expected, expected))
    return max(differences)


def survives_a_file(new, x, outputs):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        new.save(path)
        again = keras.models.load_model(path)
    return np.array_equal(np.asarray(again(x, training=False)), outputs)


def trains(new, x, targets):
    """Whether a step of Adam has a finite loss and moves every kernel."""
    new.compile(keras.optimizers.Adam(1e-3), "mse", run_eagerly=True)
    # Ratios move from the second step on, and what a share of 1e-8 scales not at all.
    kernels = [
        v
        for v in new.trainable_variables
        if "kernel" in v.name and not v.name.startswith("ratio")
    ]
    before = [v.numpy() for v in kernels]
    # Enough samples that stochastic depth does not drop a block for all of them.
    loss = new.train_on_batch(x, targets)
    moved = [
        not np.array_equal(v.numpy(), old)
        for v, old in zip(kernels, before, strict=True)
    ]
    return bool(np.isfinite(loss)) and all(moved)


def measure(name):
    """A row of the table, and whether everything is as it must be."""
    model, x = build(name)
    new, report = replace_normalization(
        model, initial_ratios={"batch": 1.0}, return_report=True
    )
    expected, outputs = (np.asarray(m(x, training=False)) for m in (model, new))
    difference = largest(expected - outputs, expected)
    nudged = np.asarray(model(x * np.float32(1 + 1e-7), training=False))
    rounding = largest(expected - nudged, expected)
    alone = of_one_layer(model, new, x)
    saved = survives_a_file(new, x, outputs)
    trained = trains(new, x, np.zeros_like(expected))

    old = len(of_type(model, keras.layers.BatchNormalization))
    replaced = len(of_type(new, ExemplarNormalization))
    left = of_type(new, keras.layers.BatchNormalization)
    fine = difference < max(1e-4, 10 * rounding) and alone < 1e-5 and not left
    fine = fine and replaced == old == len(report.replaced)
    row = (
        f"| {name} | {x.shape[1]} | {replaced} of {old} | {difference:.1e} | "
        f"{rounding:.1e} | {alone:.1e} | "
        f"{'yes' if saved else 'NO'} | {'yes' if trained else 'NO'} |"
    )
    return row, fine and saved and trained


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
                "difference of a new layer on the inputs of the old one. File: a "
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
