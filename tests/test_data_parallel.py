"""JAX: four host devices under `keras.distribution.DataParallel` against one."""

import os
import subprocess
import sys

import pytest

from tests.backends import BACKEND

# In a process of its own: a process has its number of devices from its start.
SCRIPT = """
import sys

import jax
import keras
import numpy as np

from keras_en import ExemplarNormalization
from tests import backends

synchronized, axis, masked, dtype = sys.argv[1:]
synchronized, axis, masked = synchronized == "True", int(axis), masked == "True"
tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
assert len(jax.devices()) == 4
rng = np.random.default_rng(0)
shape = [8, 4, 4, 4]
shape[axis] = 6
x, cotangent = (backends.images(rng, shape, dtype) for _ in range(2))
mask = rng.random((8, 4, 4)) < 0.7 if masked else None


def build():
    keras.utils.set_random_seed(0)
    layer = ExemplarNormalization(
        axis=axis,
        synchronized=synchronized,
        momentum=0.5,
        expansion=2,
        # keras.ops.tanh computes float64 in float32 on JAX.
        ratio_activation="relu",
        dtype=dtype,
    )
    layer.build(shape)
    return layer


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:], dtype=dtype),
            keras.layers.Conv2D(6, 3, dtype=dtype),
            ExemplarNormalization(synchronized=synchronized, dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(3, dtype=dtype),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def fitted(model):
    targets = np.random.default_rng(1).normal(size=(8, 3)).astype(dtype)
    model.fit(x, targets, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return [np.asarray(v.value) for v in model.weights]


def equal(actual, wanted, name):
    scale = max(1, np.abs(wanted).max())
    assert np.abs(actual - wanted).max() <= tolerance * scale, name


whole = build()
values = backends.randomize(whole, rng)
expected = backends.step(whole, x, cotangent, True, mask, mode="jit")
weights = fitted(network())

keras.distribution.set_distribution(
    keras.distribution.DataParallel(devices=keras.distribution.list_devices())
)
layer = build()
for variable in layer.variables:
    variable.assign(values[variable.name])
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
parts = [None if v is None else jax.device_put(v, split) for v in (x, cotangent, mask)]
assert len(parts[0].addressable_shards) == 4
assert parts[0].addressable_shards[0].data.shape[0] == 2
found = backends.step(layer, parts[0], parts[1], True, parts[2], mode="jit")
equal(found.outputs, expected.outputs, "outputs")
equal(found.dx, expected.dx, "dx")
for name, gradient in expected.gradients.items():
    equal(found.gradients[name], gradient, name)
for name, value in expected.state.items():
    equal(found.state[name], value, name)
for i, (one, other) in enumerate(zip(fitted(network()), weights, strict=True)):
    equal(one, other, f"weight {i} after fit")
print("four devices are one")
"""


@pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution is JAX's")
@pytest.mark.parametrize("synchronized", [True, False])
@pytest.mark.parametrize("axis, masked", [(-1, False), (-1, True), (1, True)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_four_devices_are_one(synchronized, axis, masked, dtype):
    flags = os.environ.get("XLA_FLAGS", "")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            str(synchronized),
            str(axis),
            str(masked),
            dtype,
        ],
        env={
            **os.environ,
            "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
    )
    assert "four devices are one" in done.stdout, done.stderr[-3000:]
