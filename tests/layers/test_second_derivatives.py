"""Gradient penalties: derivatives through the custom gradients, in float64."""

import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends, reference
from tests.backends import images, numpy

# Keras sums in float32 on torch.
TOLERANCE = 1e-4 if backends.BACKEND == "torch" else 1e-6
OPTIONS = {"expansion": 2, "ratio_activation": "linear", "dtype": "float64"}


def penalty(layer, cotangent, mask, mode):
    """A function from x to `P = sum (dL/dx)^2`, `dP/dx`, `dP/dgamma`, where
    `L = sum(layer(x) * cotangent)`."""
    build = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    run = build[backends.BACKEND](layer, cotangent, mask, mode)
    return lambda x: [numpy(value) for value in run(x)]


def _tensorflow(layer, cotangent, mask, mode):
    import tensorflow as tf

    gamma = layer.gamma.value

    def run(x):
        with tf.GradientTape() as outer:
            outer.watch([x])
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x, training=True, mask=mask) * cotangent)
            value = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return value, *outer.gradient(value, [x, gamma])

    if mode == "graph":
        # Of the input nothing is fixed but its rank and channels.
        sizes = [None] * cotangent.ndim
        sizes[layer.axis] = cotangent.shape[layer.axis]
        run = tf.function(run, input_signature=[tf.TensorSpec(sizes, "float64")])
    elif mode == "xla":
        run = tf.function(run, jit_compile=True)
    return lambda x: run(tf.constant(x))


def _jax(layer, cotangent, mask, mode):
    import jax

    def value(trainable, state, x):
        def loss(x):
            y, _ = layer.stateless_call(trainable, state, x, training=True, mask=mask)
            return (y * cotangent).sum()

        return (jax.grad(loss)(x) ** 2).sum()

    both = jax.value_and_grad(value, argnums=(0, 2))
    if mode == "jit":
        both = jax.jit(both)

    def run(x):
        trainable = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]
        result, (weights, dx) = both(trainable, state, x)
        return result, dx, weights[0]

    return run


def _torch(layer, cotangent, mask, mode):
    import torch

    mask = None if mask is None else torch.tensor(mask)

    def run(x):
        x = torch.tensor(x, requires_grad=True)
        y = layer(x, training=True, mask=mask)
        loss = (y * torch.tensor(cotangent)).sum()
        (dx,) = torch.autograd.grad(loss, x, create_graph=True)
        value = (dx**2).sum()
        return value, *torch.autograd.grad(value, [x, layer.gamma.value])

    return run


@pytest.mark.parametrize("mode", backends.MODES)
def test_a_gradient_penalty_by_hand(mode):
    """Of the batch `[-d, d]` with epsilon 1 the second output is `d / sqrt(d^2 + 1)`.

    So `dL/dx = 1/2 (d^2 + 1)^(-3/2) [-1, 1]` and `P = 1/2 (d^2 + 1)^-3`, and at `d = 1`
    `dP/dd = -3/16`; gamma multiplies L, so `dP/dgamma = 2 P`.
    """
    layer = ExemplarNormalization(normalizers=["batch"], epsilon=1.0, **OPTIONS)
    layer.build((2, 1))
    cotangent = np.array([[0.0], [1.0]])
    p, dx, dgamma = penalty(layer, cotangent, None, mode)(np.array([[-1.0], [1.0]]))
    np.testing.assert_allclose(p, 1 / 16, rtol=TOLERANCE)
    np.testing.assert_allclose(dx, [[3 / 32], [-3 / 32]], rtol=TOLERANCE)
    np.testing.assert_allclose(dgamma.ravel(), [1 / 8], rtol=TOLERANCE)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", backends.MODES)
@pytest.mark.parametrize("masked", [False, True], ids="mask-{}".format)
@pytest.mark.parametrize("shape, axis", [((3, 4, 2, 4), -1), ((3, 4, 5), 1)], ids=str)
def test_gradient_penalty(rng, shape, axis, masked, mode):
    layer = ExemplarNormalization(axis=axis, **OPTIONS)
    layer.build(shape)
    backends.randomize(layer, rng)
    x, cotangent = (images(rng, shape, "float64") for _ in range(2))
    mask = None
    if masked:
        mask = rng.random(shape[:-1]) < 0.8
    _, dx, dgamma = penalty(layer, cotangent, mask, mode)(x)

    weights = {v.name: numpy(v) for v in layer.trainable_variables}
    options = dict(axis=axis, reduction=2, ratio_activation="linear", mask=mask)

    def oracle(x, gamma):
        changed = {**weights, "gamma": gamma}
        return (reference.gradients(x, changed, cotangent, **options)[0] ** 2).sum()

    v, w = rng.normal(size=shape), rng.normal(size=layer.gamma.shape)
    gamma = weights["gamma"]

    def slope(change):
        return (change(1e-5) - change(-1e-5)) / 2e-5

    expected = slope(lambda h: oracle(x + h * v, gamma))
    np.testing.assert_allclose((dx * v).sum(), expected, rtol=TOLERANCE)
    expected = slope(lambda h: oracle(x, gamma + h * w))
    np.testing.assert_allclose((dgamma * w).sum(), expected, rtol=TOLERANCE)
