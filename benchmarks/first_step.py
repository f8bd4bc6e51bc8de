"""What the first training step costs on a CPU under XLA, without a clock: kernels, the
step's memory, and what compiling leaves in memory. Prints a table.

    KERAS_BACKEND=jax python benchmarks/first_step.py [--depth 20]

The network is a CIFAR ResNet. A process for each normalization.
"""

import argparse
import subprocess
import sys
from pathlib import Path

BATCH = 32


def resident():
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def report(norm, depth):
    """Prints fusions, the step's temporary bytes, and those that compiling adds."""
    import jax
    import keras
    import numpy as np

    from keras_en.models import CifarResNet

    model = CifarResNet(depth, norm=norm)
    x = np.zeros((BATCH, 32, 32, 3), "float32")
    y = np.zeros(BATCH, "int32")
    cost = keras.losses.SparseCategoricalCrossentropy()

    def loss(trainable, other):
        outputs, other = model.stateless_call(trainable, other, x, training=True)
        return cost(y, outputs), other

    values = [
        [v.value for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    lowered = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*values)
    before = resident()
    compiled = lowered.compile()
    after = resident()
    fusions = compiled.as_text().count(" fusion(")
    print(fusions, compiled.memory_analysis().temp_size_in_bytes, after - before)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--norm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.norm:
        return report(options.norm, options.depth)
    print(
        "| | fusions | memory of the step, MB | compiling adds, MB |\n|---|---|---|---|"
    )
    for norm in ("bn", "sn", "en"):
        words = ["--depth", str(options.depth), "--norm", norm]
        output = subprocess.check_output([sys.executable, __file__, *words], text=True)
        fusions, *sizes = map(int, output.split()[-3:])
        cells = " | ".join(f"{size / 1e6:.0f}" for size in sizes)
        print(f"| {norm} | {fusions} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
