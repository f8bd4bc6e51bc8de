"""JAX: four host devices under `keras.distribution.DataParallel` against one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests.backends import BACKEND, numpy


def test_what_devices_have_to_agree_on_by_hand():
    """Of [1, 3] on one and [5, 7] on another: mean 4, variance 5, those of the batch,
    which no device can tell from its own: 2 and 1, 6 and 1."""
    x = np.reshape([1.0, 3.0, 5.0, 7.0], (4, 1)).astype("float32")
    layer = ExemplarNormalization(normalizers=["batch"], momentum=0.0)
    layer(x, training=True)
    np.testing.assert_allclose(numpy(layer.moving_mean), [4], rtol=1e-6)
    np.testing.assert_allclose(numpy(layer.moving_variance), [5], rtol=1e-6)


# In a process of its own: a process has its number of devices from its start.
SCRIPT = """
import itertools

import jax
import keras
import numpy as np

from keras_en import ExemplarNormalization
from tests import backends

TOLERANCES = {"float32": 1e-5, "float64": 1e-10}


def build(shape, axis, synchronized, dtype):
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


def fitted(x, axis, synchronized, dtype):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:], dtype=dtype),
            keras.layers.Conv2D(6, 3, dtype=dtype),
            ExemplarNormalization(synchronized=synchronized, axis=axis, dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(3, dtype=dtype),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    targets = np.random.default_rng(1).normal(size=(8, 3)).astype(dtype)
    model.fit(x, targets, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return {f"weight {i}": np.asarray(v.value) for i, v in enumerate(model.weights)}


def check(synchronized, axis, masked, dtype):
    rng = np.random.default_rng(0)
    shape = [8, 4, 4, 4]
    shape[axis] = 6
    x, cotangent = (backends.images(rng, shape, dtype) for _ in range(2))
    mask = rng.random(shape[:-1]) < 0.7 if masked else None
    whole = build(shape, axis, synchronized, dtype)
    values = backends.randomize(whole, rng)
    expected = backends.step(whole, x, cotangent, True, mask, mode="jit")
    weights = fitted(x, axis, synchronized, dtype)

    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    layer = build(shape, axis, synchronized, dtype)
    for variable in layer.variables:
        variable.assign(values[variable.name])
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    x_, cotangent, mask = (
        None if v is None else jax.device_put(v, split) for v in (x, cotangent, mask)
    )
    assert [part.data.shape[0] for part in x_.addressable_shards] == [2] * 4
    step = backends.step(layer, x_, cotangent, True, mask, mode="jit")
    pairs = {
        "outputs": (step.outputs, expected.outputs),
        "dx": (step.dx, expected.dx),
        **{name: (step.gradients[name], g) for name, g in expected.gradients.items()},
        **{name: (step.state[name], value) for name, value in expected.state.items()},
    }
    for name, value in fitted(x, axis, synchronized, dtype).items():
        pairs[name] = value, weights[name]
    keras.distribution.set_distribution(None)
    for name, (actual, wanted) in pairs.items():
        scale = max(1, np.abs(wanted).max())
        assert np.abs(actual - wanted).max() <= TOLERANCES[dtype] * scale, name


assert len(jax.devices()) == 4
# Half of all cases: every three of the four choices meet in every way.
choices = itertools.product((True, False), (-1, 1), (True, False))
for synchronized, axis, masked in choices:
    odd = synchronized ^ (axis == 1) ^ masked
    case = synchronized, axis, masked, "float64" if odd else "float32"
    check(*case)
    print("equal:", *case)
"""


@pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution is JAX's")
def test_four_devices_are_one():
    flags = os.environ.get("XLA_FLAGS", "")
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={
            **os.environ,
            "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
    )
    # Synchronized or not, both axes, with and without a mask; two dtypes in turn.
    assert process.stdout.count("equal:") == 8, process.stderr[-3000:]
