"""What binds the layer: its bare passes over x, and its growth with every size.

    KERAS_BACKEND=tensorflow python benchmarks/limits.py
    KERAS_BACKEND=jax python benchmarks/limits.py

TensorFlow: passes, and time against every size. JAX: time and memory, whose compiler
says what it reserves.
"""

import math
from functools import partial
from unittest import mock

import keras
import numpy as np
import timing
from layer_speed import SHAPES, calls, jax_training, tensor_pass

from keras_en import ExemplarNormalization
from keras_en.models import ResNet50
from keras_en.ops import moments

BASE = (32, 56, 56, 64)
ROUNDS = 15


def passes(shape, xla):
    """Names and functions of `x`: what inference consists of, pass by pass."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    n, c = shape[0], shape[-1]
    a = tf.constant(rng.normal(size=(n, 1, 1, c)).astype("float32"))
    b = a + 1

    def both(x):
        return moments.per_sample(x, 3)[:2]

    def cancelling(x):
        norm = tf.math.reduce_euclidean_norm
        mean = tf.reduce_mean(tf.reduce_mean(x, 2), 1)
        return mean, norm(norm(x, 2), 1) ** 2 / math.prod(shape[1:3]) - mean**2

    functions = {
        "copy": lambda x: x * 1.5,
        "multiply-add by channel (BatchNormalization)": lambda x: x * a[:1] + b[:1],
        "multiply-add by sample and channel (EN)": lambda x: x * a + b,
        "sum": lambda x: tf.reduce_sum(x, [1, 2]),
        "squared difference": lambda x: tf.math.squared_difference(x, a),
        "mean and variance (EN)": both,
    }
    if not xla:  # which knows no such norm
        functions["mean and E[x^2] - E[x]^2, one reading each"] = cancelling
    return {name: tf.function(f, jit_compile=xla) for name, f in functions.items()}


def bare_passes():
    """Lines of a table: time of each pass over that of a copy."""
    import tensorflow as tf

    rows = {}
    for mode in ("graph", "xla"):
        for shape in SHAPES:
            x = tf.random.normal(shape, seed=0)
            functions = passes(shape, mode == "xla")
            timed = {name: partial(f, x) for name, f in functions.items()}
            times = timing.interleave(timed, ROUNDS)
            for name, values in times.items():
                cell = f"{timing.ratio(values, times['copy']):.2f}"
                rows.setdefault((mode, name), []).append(cell)
    head = " | ".join("x".join(map(str, shape)) for shape in SHAPES)
    lines = [f"| mode | pass | {head} |", "|---" * (len(SHAPES) + 2) + "|"]
    return lines + [
        f"| {mode} | {name} | {' | '.join(cells)} |"
        for (mode, name), cells in rows.items()
    ]


def without_statistics(x, axis, mask=None, training=False):
    """As `moments.per_sample`, but x is not read."""
    import tensorflow as tf

    zero = tf.zeros((tf.shape(x)[0], x.shape[axis]), x.dtype)
    return moments.Moments(zero, zero + 1, tf.ones((tf.shape(x)[0], 1), x.dtype))


def network():
    """Lines of a table: inference of ResNet-50, and what of it is not statistics."""
    import tensorflow as tf

    cases = {
        "BN": ("bn", moments.per_sample),
        "EN": ("en", moments.per_sample),
        "EN, statistics as constants": ("en", without_statistics),
    }
    lines = [f"| | {' | '.join(cases)} |", "|---" * (len(cases) + 1) + "|"]
    for mode in ("graph", "xla"):
        functions = {}
        for name, (norm, per_sample) in cases.items():
            model = ResNet50(norm=norm)
            infer = partial(model, training=False)
            infer = tf.function(infer, jit_compile=mode == "xla", autograph=False)
            with mock.patch.object(moments, "per_sample", per_sample):
                for n in (1, 8):
                    infer(tf.zeros((n, 224, 224, 3)))
            functions[name] = infer
        for n in (1, 8):
            x = tf.random.normal((n, 224, 224, 3), seed=0)
            timed = {name: partial(infer, x) for name, infer in functions.items()}
            times = timing.interleave(timed, ROUNDS)
            cells = [f"{timing.ratio(t, times['BN']):.2f}" for t in times.values()]
            lines.append(f"| {mode}, batch {n} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return lines


def random(shape):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for _ in range(2)]


def layer(shape, **kwargs):
    built = ExemplarNormalization(**kwargs)
    built.build(shape)
    return built


def reserved(shape, **kwargs):
    """Bytes that XLA reserves for a training step beside its arguments."""
    step, weights = jax_training(layer(shape, **kwargs))
    lowered = step.lower(*weights, *random(shape))
    return lowered.compile().memory_analysis().temp_size_in_bytes


def growth(mode):
    """Lines of a table: time over that of the first column."""
    n, h, w, c = BASE
    pools = [
        ("batch",),
        ("instance", "batch"),
        ("instance", "layer", "batch"),
        ("instance", "layer", "group", "batch"),
    ]
    variants = {
        "N = 8, 16, 32, 64": [((m, h, w, c), {}) for m in (8, 16, 32, 64)],
        "C = 16, 32, 64, 128": [((n, h, w, m), {}) for m in (16, 32, 64, 128)],
        "HxW = 28x28, 56x28, 56x56, 112x56": [
            ((n, *m, c), {}) for m in ((28, 28), (56, 28), (56, 56), (112, 56))
        ],
        "K = 1, 2, 3, 4": [(BASE, {"normalizers": pool}) for pool in pools],
        "pi = 1, 10, 50, 100": [(BASE, {"expansion": m}) for m in (1, 10, 50, 100)],
    }
    lines = []
    for name, cases in variants.items():
        compiled = [calls(layer(s, **kw), *random(s), mode) for s, kw in cases]
        for jobs, (shape, _) in zip(compiled, cases, strict=True):
            # What the machine itself does with as many bytes.
            jobs["a pass over x"] = tensor_pass(random(shape)[0], "float32")
        for job in compiled[0]:
            timed = {i: c[job] for i, c in enumerate(compiled)}
            times = timing.interleave(timed, ROUNDS)
            cells = [f"{timing.ratio(t, times[0]):.2f}" for t in times.values()]
            lines.append(f"| {mode}, {job} | {name} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        if mode == "jit":
            sizes = [reserved(shape, **kwargs) for shape, kwargs in cases]
            cells = [f"{size / sizes[0]:.2f}" for size in sizes]
            lines.append(
                f"| {mode}, memory of training | {name} | {' | '.join(cells)} |"
            )
            print(lines[-1], flush=True)
    return lines


def main():
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise SystemExit(
            f"KERAS_BACKEND must be tensorflow or jax. Received: {backend}"
        )
    keras.utils.set_random_seed(0)
    lines, modes = [], ["jit"]
    if backend == "tensorflow":
        modes = ["graph", "xla"]
        lines += ["## Bare passes, in copies of x (one reading, one writing)", ""]
        lines += [*bare_passes(), ""]
        lines += ["## Inference of ResNet-50, 224x224, over that with BN", ""]
        lines += [*network(), ""]
    lines += ["## Growth, over the first column", ""]
    lines += ["| | size | | | | |", "|---|---|---|---|---|---|"]
    for mode in modes:
        lines += growth(mode)
    timing.write(f"limits-{backend}-cpu", f"What binds the layer: {backend}", lines)


if __name__ == "__main__":
    main()
