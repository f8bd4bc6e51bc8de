"""Speed and memory of whole networks, as ratios to the one with BatchNormalization.

    KERAS_BACKEND=tensorflow python benchmarks/model_speed.py [--short]
    KERAS_BACKEND=jax python benchmarks/model_speed.py [--short]

On a machine with a GPU the JAX run measures the GPU.
"""

import argparse
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import timing

from keras_en.models import CifarResNet, ResNet50

NORMS = {"BN": "bn", "GN": "gn", "SN": "sn", "EN": "en"}
# Builder, image, classes, batch of a training step, batches of inference.
NETWORKS = {
    "ResNet-20": (partial(CifarResNet, 20), (32, 32, 3), 10, 128, (128,)),
    "ResNet-50": (ResNet50, (224, 224, 3), 1000, 8, (1, 8)),
}
BASELINE = "BN"


def batch(network, size):
    _, image, classes, _, _ = NETWORKS[network]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(size, *image)).astype("float32")
    return x, rng.integers(0, classes, size)


class Steps:
    """A network with its training and inference step, compiled for `mode`."""

    def __init__(self, network, norm, mode):
        keras.utils.set_random_seed(0)
        self.model = NETWORKS[network][0](norm=NORMS[norm], classifier_activation=None)
        self.optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        self.optimizer.build(self.model.trainable_variables)
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        tensorflow = keras.backend.backend() == "tensorflow"
        (self._tensorflow if tensorflow else self._jax)(mode)

    def _tensorflow(self, mode):
        import tensorflow as tf

        variables = self.model.trainable_variables

        @tf.function(jit_compile=mode == "xla")
        def train(x, y):
            with tf.GradientTape() as tape:
                loss = self.loss(y, self.model(x, training=True))
            slopes = tape.gradient(loss, [v.value for v in variables])
            self.optimizer.apply(slopes, variables)
            return loss

        @tf.function(jit_compile=mode == "xla")
        def infer(x):
            return self.model(x, training=False)

        # Eager CPU calls return when they are done.
        self.train, self.infer, self.place = train, infer, tf.constant

    def _jax(self, mode):
        import jax

        model, optimizer = self.model, self.optimizer
        self.state = [
            [v.value for v in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                optimizer.variables,
            )
        ]

        def loss(trainable, state, x, y):
            logits, state = model.stateless_call(trainable, state, x, training=True)
            return self.loss(y, logits), state

        @jax.jit
        def train(trainable, state, slots, x, y):
            step = jax.value_and_grad(loss, has_aux=True)
            (value, state), slopes = step(trainable, state, x, y)
            trainable, slots = optimizer.stateless_apply(slots, slopes, trainable)
            return value, trainable, state, slots

        infer = jax.jit(lambda t, s, x: model.stateless_call(t, s, x, training=False))
        ready = jax.block_until_ready
        self.train = lambda x, y: ready(train(*self.state, x, y))
        self.infer = lambda x: ready(infer(*self.state[:2], x))
        self.place = jax.numpy.asarray
        self.lower = lambda x, y: train.lower(*self.state, x, y)


def speed(network, mode, norms, rounds):
    """Lines of a table: ratios to the network with BatchNormalization."""
    size, inferred = NETWORKS[network][3:]
    steps = {norm: Steps(network, norm, mode) for norm in norms}
    x, y = map(steps[BASELINE].place, batch(network, size))
    jobs = {
        f"training step, batch {size}": {
            norm: partial(step.train, x, y) for norm, step in steps.items()
        }
    }
    for count in inferred:
        images = steps[BASELINE].place(batch(network, count)[0])
        jobs[f"inference, batch {count}"] = {
            norm: partial(step.infer, images) for norm, step in steps.items()
        }
    lines = []
    for job, calls in jobs.items():
        times = timing.interleave(calls, rounds)
        cells = [f"{timing.ratio(times[n], times[BASELINE]):.2f}" for n in norms]
        lines.append(f"| {network}, {mode}: {job} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def alone(network, mode, norms):
    """Lines of a table: what is measured in a process of its own for every norm."""
    measured = {norm: {} for norm in norms}
    for norm in norms:
        command = [sys.executable, __file__, "--alone", network, norm, mode]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        for line in printed.stdout.splitlines():
            if line.startswith("alone: "):
                _, kind, value = line.split(": ")
                measured[norm][kind] = float(value)
    lines = []
    for kind, base in measured[BASELINE].items():
        cells = [f"{measured[norm][kind] / base:.2f}" for norm in norms]
        lines.append(
            f"| {network}, {mode}: {kind} (BN: {base:.0f}) | {' | '.join(cells)} |"
        )
        print(lines[-1], flush=True)
    return lines


def report_alone(network, norm, mode):
    """Prints the seconds of the first training step and the memory of a step."""
    steps = Steps(network, norm, mode)
    x, y = map(steps.place, batch(network, NETWORKS[network][3]))
    if mode == "jit":
        # A GPU's memory is no process's: what the compiler reserves.
        analysis = steps.lower(x, y).compile().memory_analysis()
        reserved = analysis.temp_size_in_bytes / 2**20
        print(f"alone: memory of a training step, compiler, MiB: {reserved}")
    resident = _memory("VmRSS")
    started = time.perf_counter()
    steps.train(x, y)
    seconds = time.perf_counter() - started
    print(f"alone: first training step (tracing, compiling), s: {seconds}")
    if mode != "jit":
        for _ in range(3):
            steps.train(x, y)
        grown = _memory("VmHWM") - resident
        print(f"alone: memory of first training steps, process, MiB: {grown}")


def _memory(kind):
    """MiB of this process: now ("VmRSS"), or at most so far ("VmHWM")."""
    # Not `getrusage`: what it calls the maximum may be that of the parent process.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 2**10
    raise RuntimeError(f"/proc/self/status has no {kind}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="ResNet-20, EN and BN")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return report_alone(*options.alone)
    backend, modes, device = keras.backend.backend(), ("graph", "xla"), "cpu"
    if backend == "jax":
        import jax

        modes, device = ("jit",), jax.default_backend()
    networks = ["ResNet-20"] if options.short else list(NETWORKS)
    norms = ["BN", "EN"] if options.short else list(NORMS)
    lines = [f"| | {' | '.join(norms)} |", "|---" * (len(norms) + 1) + "|"]
    for network in networks:
        for mode in modes:
            lines += speed(network, mode, norms, 5 if options.short else 9)
            if not options.short:
                lines += alone(network, mode, norms)
    suffix = "-short" if options.short else ""
    timing.write(
        f"model_speed-{backend}-{device}{suffix}",
        f"Whole networks against BatchNormalization: {backend}, {device}",
        [
            "Time, or memory, over that of the same network with "
            "`keras.layers.BatchNormalization`; below 1 is better. A training step "
            "is forward, backward and SGD with momentum.",
            "",
            *lines,
        ],
    )


if __name__ == "__main__":
    main()
