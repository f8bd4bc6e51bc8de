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
given = dict(np.load(sys.argv[1]))
pool = ["instance", "layer", "group", "batch"]
layer = ExemplarNormalization(normalizers=pool, groups=2)
layer.build(given["x"].shape)
found = {}
for training in (True, False):
    for variable in layer.variables:
        variable.assign(given[variable.name])
    step = backends.step(
        layer, given["x"], given["cotangent"], training, given["mask"], mode="jit"
    )
    named = {**step._asdict(), **step.gradients, **step.state}
    for name, value in named.items():
        if not isinstance(value, dict):
            found[f"{training} {name}"] = value
np.savez(sys.argv[2], **found)
"""


@pytest.mark.tensorflow
def test_jax_jit_equals_every_mode_of_tensorflow(rng, tmp_path):
    x = images(rng, (4, 6, 6, 8))
    layer = ExemplarNormalization(**OPTIONS)
    layer.build(x.shape)
    backends.randomize(layer, rng)
    start = {v.name: numpy(v) for v in layer.variables}
    given = dict(x=x, cotangent=images(rng, x.shape), mask=rng.random((4, 6, 6)) < 0.8)
    np.savez(tmp_path / "given.npz", **given, **start)
    subprocess.run(
        [sys.executable, "-c", ON_JAX, tmp_path / "given.npz", tmp_path / "found.npz"],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    on_jax = dict(np.load(tmp_path / "found.npz"))
    for training in (True, False):
        for mode in backends.MODES:
            for variable in layer.variables:
                variable.assign(start[variable.name])
            step = backends.step(
                layer, x, given["cotangent"], training, given["mask"], mode=mode
            )
            named = {**step._asdict(), **step.gradients, **step.state}
            named = {k: v for k, v in named.items() if not isinstance(v, dict)}
            assert len(named) == 12
            for name, value in named.items():
                scale = max(1, np.abs(value).max())
                difference = np.abs(on_jax[f"{training} {name}"] - value).max()
                assert difference <= 1e-5 * scale, (mode, training, name)
