"""Sums over the rows of a batch against NumPy float64."""

import numpy as np
import pytest
from keras import ops

from keras_en import ExemplarNormalization
from keras_en.ops import moments, rows
from tests import backends
from tests.backends import numpy


def compiled(function, mode):
    """`function` of an array, as `mode` runs it, with an unknown number of rows where
    the backend allows that."""
    if mode == "eager":
        return lambda array: function(ops.convert_to_tensor(array))
    if mode == "jit":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    def run(array):
        spec = tf.TensorSpec([None, *array.shape[1:]], array.dtype)
        graph = tf.function(function, input_signature=[spec], jit_compile=mode == "xla")
        return graph(tf.constant(array))

    return run


@pytest.mark.parametrize("mode", backends.MODES)
def test_three_rows_by_hand(mode):
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "float32")
    weight = np.array([[1.0], [0.0], [2.0]], "float32")
    run = compiled(lambda x: (rows.total(x), rows.total(x, 0.5, keepdims=True)), mode)
    for actual, expected in zip(run(values), ([9, 12], [[4.5, 6]]), strict=True):
        np.testing.assert_array_equal(numpy(actual), expected)
    run = compiled(lambda x: rows.total(x, ops.convert_to_tensor(weight)), mode)
    np.testing.assert_array_equal(numpy(run(values)), [11, 14])


@pytest.mark.parametrize("mode", backends.MODES)
@pytest.mark.parametrize("n", [2048, 2049, 100_003])
def test_any_number_of_rows(rng, n, mode):
    values = rng.normal(size=(n, 2, 3)).astype("float32")
    total = numpy(compiled(rows.total, mode)(values))
    np.testing.assert_allclose(total, values.sum(0, dtype="float64"), atol=1e-3)


# Of 17 million ones, more than float32 counts one by one.
@pytest.mark.parametrize("mode", backends.MODES)
def test_ones_are_counted(mode):
    n = 2**24 + 2**20
    ones = np.broadcast_to(np.float32(1), (n, 1))
    np.testing.assert_array_equal(numpy(compiled(rows.total, mode)(ones)), [n])


@pytest.mark.parametrize("masked", [False, True], ids="mask-{}".format)
@pytest.mark.parametrize("mode", backends.MODES)
def test_statistics_of_three_million_rows(rng, mode, masked):
    """A mean of 3 and a variance of 0.1; added one by one, the variance of two columns
    is off by 0.3 %."""
    n = 3_000_001
    x = np.tile(np.float32([[3], [3]]), (1, 2)).repeat((n + 1) // 2, axis=0)[:n]
    x += rng.choice(np.float32([-1, 1]), (n, 2)) * np.float32(0.1**0.5)
    mask = np.arange(n) % 3 > 0
    x = np.concatenate([x, mask[:, None]], axis=1, dtype="float32")

    def statistics(x):
        where = x[:, 2] > 0 if masked else None
        samples = moments.per_sample(x[:, :2], 1, where, training=True)
        return moments.over_batch(*samples)

    mean, variance, count = map(numpy, compiled(statistics, mode)(x))
    exact = (x[mask] if masked else x)[:, :2].astype("float64")
    np.testing.assert_allclose(mean[0], exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance[0], exact.var(0), rtol=1e-5)
    np.testing.assert_array_equal(np.ravel(count), len(exact))


def test_the_ratio_of_a_single_normalizer_is_one(rng):
    """Whatever the weights of its head; none of them has a gradient but 0."""
    x = backends.images(rng, (4, 6, 8))
    for head in ("correlation", "mlp"):
        layer = ExemplarNormalization(normalizers=["batch"], ratio_head=head)
        layer.build(x.shape)
        backends.randomize(layer, rng)
        for training in (True, False):
            step = backends.step(layer, x, np.ones_like(x), training)
            np.testing.assert_array_equal(step.ratios, np.ones((4, 1)))
            for name, gradient in step.gradients.items():
                assert name in ("gamma", "beta") or not gradient.any(), name
