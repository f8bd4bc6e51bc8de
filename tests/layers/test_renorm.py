"""Batch renormalization against NumPy, written from the paper, and Keras's layer."""

import keras
import numpy as np
import pytest

from keras_en import (
    ExemplarNormalization,
    SwitchableNormalization,
    replace_normalization,
)
from tests import backends
from tests.backends import images, numpy

LIMITS = {"rmin": 0.5, "rmax": 1.5, "dmax": 0.4}
MOVING = (
    "moving_mean",
    "moving_variance",
    "moving_stddev",
    "renorm_mean",
    "renorm_stddev",
)


def test_one_channel_by_hand():
    """Of the batch [1, 5], mean 3 and variance 4, with epsilon 5 `sigma` is 3. The
    averages start at 0 and 1, below `sqrt(5)`: `r` is `3 / sqrt(5)`, `d` too, and
    without limits `x_hat r + d = x / sqrt(5)`; with `r` up to 1 and `d` up to 0.5 it is
    `x_hat + 0.5`."""
    x = np.array([[1.0], [5.0]], "float32")
    options = dict(normalizers=["batch"], epsilon=5.0, momentum=0.5, renorm=True)
    free = ExemplarNormalization(renorm_momentum=0.75, **options)
    np.testing.assert_allclose(numpy(free(x, training=True)), x / 5**0.5, rtol=1e-6)
    values = [numpy(getattr(free, name)).item() for name in MOVING]
    np.testing.assert_allclose(values, [1.5, 0, 2, 0.75, 1.5], atol=1e-6)
    limited = ExemplarNormalization(renorm_clipping={"rmax": 1, "dmax": 0.5}, **options)
    expected = [[-2 / 3 + 0.5], [2 / 3 + 0.5]]
    np.testing.assert_allclose(numpy(limited(x, training=True)), expected, rtol=1e-6)


@pytest.mark.parametrize("cls", [ExemplarNormalization, SwitchableNormalization])
@pytest.mark.parametrize("masked", [False, True], ids="mask-{}".format)
def test_a_pool_of_batch_is_keras_layer(rng, cls, masked):
    """Outputs, gradients and statistics over 20 steps, then inference."""
    options = dict(renorm=True, renorm_clipping=LIMITS, renorm_momentum=0.8, axis=-1)
    theirs = keras.layers.BatchNormalization(momentum=0.9, **options)
    ours = cls.from_config({**theirs.get_config(), "normalizers": ["batch"]})
    shape = (4, 3, 5)
    for layer in (ours, theirs):
        layer.build(shape)
        layer.gamma.assign(np.reshape(np.linspace(0.5, 2, 5), layer.gamma.shape))
    mask = rng.random(shape[:-1]) < 0.8 if masked else None
    runs = [runner(layer, mask) for layer in (ours, theirs)]
    for i in range(20):
        x, cotangent = images(rng, shape) * (1 + i / 10), images(rng, shape)
        one, other = (run(x, cotangent) for run in runs)
        for actual, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(np.ravel(actual), np.ravel(expected), atol=2e-5)
    for name in MOVING:
        expected = numpy(getattr(theirs, name))
        np.testing.assert_allclose(numpy(getattr(ours, name)), expected, atol=2e-5)
    x = images(rng, shape)
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=2e-5)


def runner(layer, mask):
    """A function of input and cotangent to output, and gradients by input, gamma and
    beta; it moves the statistics."""
    if backends.BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def run(x, cotangent):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True, mask=mask)
                loss = tf.reduce_sum(y * cotangent)
            return y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

        return lambda *arrays: [numpy(v) for v in run(*map(tf.constant, arrays))]
    if backends.BACKEND == "torch":
        import torch

        def run(x, cotangent):
            x = torch.tensor(x, requires_grad=True)
            where = None if mask is None else torch.tensor(mask)
            y = layer(x, training=True, mask=where)
            loss = (y * torch.tensor(cotangent)).sum()
            at = [x, layer.gamma.value, layer.beta.value]
            return [numpy(v) for v in (y, *torch.autograd.grad(loss, at))]

        return run
    import jax

    def loss(trainable, x, state, cotangent):
        y, state = layer.stateless_call(trainable, state, x, training=True, mask=mask)
        return (y * cotangent).sum(), (y, state)

    step = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))

    def run(x, cotangent):
        trainable = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]
        (weights, dx), (y, state) = step(trainable, x, state, cotangent)
        for variable, value in zip(layer.non_trainable_variables, state, strict=True):
            variable.assign(value)
        return [numpy(v) for v in (y, dx, *weights[:2])]

    return run


def test_a_mixture_follows_the_paper(rng):
    """At the first step all ratios are 1/3: the row of "batch" is renormalized, the
    others are not."""
    x = images(rng, (4, 3, 3, 6)) + 1
    options = dict(renorm=True, renorm_clipping=LIMITS)
    y = numpy(ExemplarNormalization(**options)(x, training=True))

    def normalized(axes):
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-3)

    sigma = np.sqrt(x.var((0, 1, 2)) + 1e-3)
    r, d = np.clip(sigma, 0.5, 1.5), np.clip(x.mean((0, 1, 2)), -0.4, 0.4)
    batch = normalized((0, 1, 2)) * r + d
    expected = (normalized((1, 2)) + normalized((1, 2, 3)) + batch) / 3
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_batch_that_is_hidden_moves_nothing(rng):
    layer = ExemplarNormalization(renorm=True)
    x = images(rng, (3, 4, 6))
    layer(x, training=True, mask=np.zeros((3, 4), bool))
    starts = {"moving_mean": 0, "renorm_mean": 0}
    for name in MOVING:
        np.testing.assert_array_equal(numpy(getattr(layer, name)), starts.get(name, 1))


def test_surgery_and_files_carry_it(rng, tmp_path):
    inputs = keras.Input((4, 4, 3))
    norm = keras.layers.BatchNormalization(
        renorm=True, renorm_clipping=LIMITS, renorm_momentum=0.7, name="norm"
    )
    model = keras.Model(inputs, norm(inputs))
    x = images(rng, (5, 4, 4, 3))
    for _ in range(2):
        norm(x, training=True)
    values = [numpy(getattr(norm, name)) for name in MOVING]
    replaced = replace_normalization(model, initial_ratios={"batch": 1.0})
    replaced.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    back = replace_normalization(loaded, to="bn")
    for network in (replaced, loaded, back):
        layer = network.get_layer("norm")
        assert layer.renorm and layer.renorm_clipping == LIMITS
        assert layer.renorm_momentum == 0.7
        for name, value in zip(MOVING, values, strict=True):
            np.testing.assert_array_equal(numpy(getattr(layer, name)), value)
    expected = numpy(norm(x, training=True))
    np.testing.assert_allclose(
        numpy(replaced.get_layer("norm")(x, training=True)), expected, atol=1e-4
    )
