"""Speed of one normalization layer, as a ratio to keras.layers.BatchNormalization.

    KERAS_BACKEND=tensorflow python benchmarks/layer_speed.py [--short]
    KERAS_BACKEND=jax python benchmarks/layer_speed.py [--short]

On a machine with a GPU the JAX run measures the GPU.
"""

import argparse

import keras
import numpy as np
import timing
from yardsticks import Printed

from keras_en import ExemplarNormalization, SwitchableNormalization

SHAPES = [
    (32, 56, 56, 64),
    (32, 28, 28, 128),
    (32, 14, 14, 256),
    (32, 7, 7, 2048),
    (64, 32, 32, 16),
]
GPU_SHAPES = [(64, 56, 56, 256)]
LAYERS = {
    "BatchNormalization": keras.layers.BatchNormalization,
    "GroupNormalization": lambda: keras.layers.GroupNormalization(groups=16),
    "LayerNormalization": lambda: keras.layers.LayerNormalization(axis=[1, 2, 3]),
    "SN": SwitchableNormalization,
    "EN as printed": Printed,
    "EN": ExemplarNormalization,
}
# Tensor passes that no form can save: inference reads x for the statistics and again
# for the output; training reads dy and x twice more, and writes dx.
FLOOR = {"inference": 3, "training": 8}
BASELINE = "BatchNormalization"


def calls(layer, x, dy, mode):
    """`{"inference": f, "training": f}`, compiled; each blocks."""
    if keras.backend.backend() == "jax":
        return _jax_calls(layer, x, dy)
    import tensorflow as tf

    variables = [v.value for v in layer.trainable_variables]
    training = len(layer.non_trainable_variables) > 0

    @tf.function(jit_compile=mode == "xla")
    def inference(x):
        return layer(x, training=False) if training else layer(x)

    @tf.function(jit_compile=mode == "xla")
    def train(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if training else layer(x)
        return tape.gradient(y, [x, *variables], output_gradients=dy)

    def blocking(function, *arguments):
        # Eager CPU calls return when they are done.
        return lambda: function(*arguments)

    x, dy = tf.cast(x, layer.compute_dtype), tf.cast(dy, layer.compute_dtype)
    return {
        "inference": blocking(inference, x),
        "training": blocking(train, x, dy),
    }


def _jax_forward(layer):
    """A pure function of x, and the layer's variables as it takes them."""
    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]

    def forward(trainable, state, x, training):
        return layer.stateless_call(
            trainable, state, x, **({"training": training} if state else {})
        )

    return forward, trainable, state


def jax_training(layer):
    """A jitted function and its first arguments; x and dy are the others. It returns
    dx, the gradients of all weights, and the new state."""
    import jax

    forward, trainable, state = _jax_forward(layer)

    @jax.jit
    def train(trainable, state, x, dy):
        _, back, new = jax.vjp(
            lambda t, x: forward(t, state, x, True), trainable, x, has_aux=True
        )
        return back(dy), new

    return train, (trainable, state)


def _jax_calls(layer, x, dy):
    import jax

    x, dy = (jax.numpy.asarray(t, layer.compute_dtype) for t in (x, dy))
    forward, trainable, state = _jax_forward(layer)
    inference = jax.jit(lambda t, s, x: forward(t, s, x, False)[0])
    train, weights = jax_training(layer)
    ready = jax.block_until_ready
    return {
        "inference": lambda: ready(inference(trainable, state, x)),
        "training": lambda: ready(train(*weights, x, dy)),
    }


def tensor_pass(x, dtype):
    """A function that reads and writes a tensor like `x`; blocks."""
    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu":
            x = jax.numpy.asarray(x, dtype)
            scaled = jax.jit(lambda x: x * 1.5)
            return lambda: jax.block_until_ready(scaled(x))
    # NumPy has no bfloat16: half as many float32 are as many bytes.
    return timing.scaling(x.reshape(-1)[:: 2 if dtype == "bfloat16" else 1])


def measure(shape, dtype, mode, rounds):
    """`{"inference" | "training": {name: (ratio to BN, share of the floor)}}`."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 1.0, shape).astype("float32")
    dy = rng.normal(size=shape).astype("float32")
    policy = "float32" if dtype == "float32" else f"mixed_{dtype}"
    keras.config.set_dtype_policy(policy)
    results = {}
    layers = {name: build() for name, build in LAYERS.items()}
    for layer in layers.values():
        layer.build(shape)
    compiled = {name: calls(layer, x, dy, mode) for name, layer in layers.items()}
    copy = tensor_pass(x, dtype)
    for job, passes in FLOOR.items():
        timed = {name: functions[job] for name, functions in compiled.items()}
        timed["copy"] = copy
        times = timing.interleave(timed, rounds)
        # It reads once and writes once.
        floor = times.pop("copy") * passes / 2
        results[job] = {
            name: (
                timing.ratio(values, times[BASELINE]),
                1 / timing.ratio(values, floor),
            )
            for name, values in times.items()
        }
    return results


def table(results, job):
    """Ratios to BatchNormalization, a row a shape, and their geometric mean."""
    lines = [
        "| shape | " + " | ".join(LAYERS) + " | EN, share of the floor |",
        "|---" * (len(LAYERS) + 2) + "|",
    ]
    for shape, jobs in results.items():
        row = [f"{jobs[job][name][0]:.2f}" for name in LAYERS]
        floor = f"{jobs[job]['EN'][1]:.0%}"
        lines.append(f"| {'x'.join(map(str, shape))} | {' | '.join(row)} | {floor} |")
    if len(results) > 1:
        means = [
            timing.geometric_mean(jobs[job][name][0] for jobs in results.values())
            for name in LAYERS
        ]
        row = " | ".join(f"**{mean:.2f}**" for mean in means)
        lines.append(f"| geometric mean | {row} | |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few rounds, float32 only")
    options = parser.parse_args()
    backend = keras.backend.backend()
    modes, device, shapes = ("graph", "xla"), "cpu", SHAPES
    if backend == "jax":
        import jax

        modes, device = ("jit",), jax.default_backend()
        shapes = SHAPES + GPU_SHAPES * (device != "cpu")
    lines = []
    for dtype in ("float32",) if options.short else ("float32", "bfloat16"):
        for mode in modes:
            results = {}
            for shape in shapes:
                results[shape] = measure(shape, dtype, mode, 9 if options.short else 25)
                print(dtype, mode, shape, results[shape], flush=True)
            for job in FLOOR:
                lines += [f"## {job}, {mode}, {dtype}", ""]
                lines += [*table(results, job), ""]
    suffix = "-short" if options.short else ""
    timing.write(
        f"layer_speed-{backend}-{device}{suffix}",
        f"One layer against BatchNormalization: {backend}, {device}",
        [
            "Time over that of `keras.layers.BatchNormalization`; below 1 is faster.",
            "Share of the floor: the time of the tensor passes that no form can save "
            f"({FLOOR['inference']} in inference, {FLOOR['training']} in training), "
            "at the speed of scaling a tensor into memory that is there already, in "
            "the same rounds, over the time of EN.",
            "",
            *lines,
        ],
    )


if __name__ == "__main__":
    main()
