"""TensorFlow and JAX, each compiled in a process of its own: the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends
from tests.backends import images, numpy

ROOT = Path(__file__).parents[2]
OPTIONS = dict(normalizers=["instance", "layer", "group", "batch"], groups=2)

ON_JAX = """
import sys
import numpy as np
from keras_en import ExemplarNormalization
from tests import backends

assert backends.BACKEND == "jax"
inputs = dict(np.load(sys.argv[1]))
pool = ["instance", "layer", "group", "batch"]
layer = ExemplarNormalization(normalizers=pool, groups=2)
layer.build(inputs["x"].shape)
results = {}
for training in (True, False):
    for variable in layer.variables:
        variable.assign(inputs[variable.name])
    step = backends.step(
        layer, inputs["x"], inputs["cotangent"], training, inputs["mask"], mode="jit"
    )
    named = {**step._asdict(), **step.gradients, **step.state}
    for name, value in named.items():
        if not isinstance(value, dict):
            results[f"{training} {name}"] = value
np.savez(sys.argv[2], **results)
"""


def test_the_same_by_hand():
    """On this backend, whichever it is: one sample with mean 2 and variance 1."""
    layer = ExemplarNormalization(normalizers=["layer"], epsilon=1e-7)
    y = layer(np.array([[1.0, 3.0]], "float32"))
    np.testing.assert_allclose(numpy(y), [[-1, 1]], atol=1e-5)


@pytest.mark.tensorflow
def test_jax_jit_equals_every_mode_of_tensorflow(rng, tmp_path):
    x = images(rng, (4, 6, 6, 8))
    layer = ExemplarNormalization(**OPTIONS)
    layer.build(x.shape)
    backends.randomize(layer, rng)
    start = {v.name: numpy(v) for v in layer.variables}
    inputs = dict(x=x, cotangent=images(rng, x.shape), mask=rng.random((4, 6, 6)) < 0.8)
    np.savez(tmp_path / "inputs.npz", **inputs, **start)
    subprocess.run(
        [
            sys.executable,
            "-c",
            ON_JAX,
            tmp_path / "inputs.npz",
            tmp_path / "outputs.npz",
        ],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    on_jax = dict(np.load(tmp_path / "outputs.npz"))
    for training in (True, False):
        for mode in backends.MODES:
            for variable in layer.variables:
                variable.assign(start[variable.name])
            step = backends.step(
                layer, x, inputs["cotangent"], training, inputs["mask"], mode=mode
            )
            named = {**step._asdict(), **step.gradients, **step.state}
            named = {k: v for k, v in named.items() if not isinstance(v, dict)}
            assert len(named) == 12
            for name, value in named.items():
                scale = max(1, np.abs(value).max())
                difference = np.abs(on_jax[f"{training} {name}"] - value).max()
                assert difference <= 1e-5 * scale, (mode, training, name)
