"""Shapes, dtypes, masks, and every mode of execution."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_en import ExemplarNormalization, replace_normalization
from tests import backends
from tests.backends import images, numpy


def test_a_mask_by_hand():
    """What it hides enters no statistic, here mean 2 and variance 1, but is normalized
    like the rest."""
    x = np.reshape([1.0, 3.0, 100.0], (1, 3, 1)).astype("float32")
    layer = ExemplarNormalization(normalizers=["instance"], epsilon=1e-7)
    for mask in ([[True, True, False]], ((1.0, 1.0, 0.0),), np.array([[1, 1, 0]])):
        y = layer(x, mask=mask)
        np.testing.assert_allclose(numpy(y).ravel(), [-1, 1, 98], rtol=1e-5)


def test_default_pools():
    layer = ExemplarNormalization()
    layer.build((None, 8))
    assert layer.pool == ("layer", "batch")
    layer = ExemplarNormalization()
    layer.build((None, 4, 8))
    assert layer.pool == ("instance", "layer", "batch")


@pytest.mark.parametrize(
    "axis, shape", [(-1, (None, None, None, 8)), (1, (None, 8, None))]
)
def test_unknown_sizes(rng, axis, shape):
    inputs = keras.Input(batch_shape=shape)
    layer = ExemplarNormalization(axis=axis)
    outputs, ratios = layer(inputs, return_ratios=True)
    assert outputs.shape == shape and ratios.shape == (None, 3)
    model = keras.Model(inputs, [outputs, ratios])
    for size in (1, 3):
        x = images(
            rng, [8 if i == axis % len(shape) else size for i in range(len(shape))]
        )
        y, lambdas = model(x)
        np.testing.assert_allclose(numpy(y), numpy(layer(x)), atol=1e-6)
        assert lambdas.shape == (size, 3)


@pytest.mark.parametrize(
    "policy, dtype, outputs, weights, ratios",
    [
        ("float32", "float32", "float32", "float32", "float32"),
        ("float32", "float16", "float32", "float32", "float32"),
        ("mixed_float16", "float16", "float16", "float32", "float32"),
        ("mixed_float16", "float32", "float16", "float32", "float32"),
        ("mixed_bfloat16", "bfloat16", "bfloat16", "float32", "float32"),
        ("float16", "float16", "float16", "float16", "float32"),
        ("float64", "float64", "float64", "float64", "float64"),
        ("float64", "float32", "float64", "float64", "float64"),
    ],
)
def test_dtypes(rng, policy, dtype, outputs, weights, ratios):
    layer = ExemplarNormalization(dtype=policy)
    x = ops.cast(images(rng), dtype)
    for training in (True, False):
        y, lambdas = layer(x, training=training, return_ratios=True)
        spec = layer.compute_output_spec(x, training=training, return_ratios=True)
        for tensor, symbolic, expected in zip(
            (y, lambdas), spec, (outputs, ratios), strict=True
        ):
            assert keras.backend.standardize_dtype(tensor.dtype) == expected
            assert symbolic.dtype == expected
            assert tuple(tensor.shape) == symbolic.shape
    assert layer.gamma.dtype == weights
    # Half precision only rounds the input and the output.
    exact = ExemplarNormalization(dtype="float32")
    exact(ops.cast(x, "float32"), training=True)
    expected = numpy(exact(ops.cast(x, "float32")))
    tolerance = {"float16": 5e-3, "bfloat16": 4e-2}.get(outputs, 1e-5)
    np.testing.assert_allclose(
        numpy(ops.cast(layer(x), "float32")), expected, atol=tolerance
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_integers_are_computed_in_float32(rng, dtype, policy):
    """As in BatchNormalization."""
    x = rng.integers(0, 2 if dtype == "bool" else 200, (4, 3, 3, 8)).astype(dtype)
    ours = ExemplarNormalization(normalizers=["batch"], dtype=policy)
    theirs = keras.layers.BatchNormalization(dtype=policy)
    for training in (True, False):
        y, expected = ours(x, training=training), theirs(x, training=training)
        assert y.dtype == expected.dtype
        y, expected = (numpy(ops.cast(v, "float32")) for v in (y, expected))
        np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        y, expected = numpy(getattr(ours, name)), numpy(getattr(theirs, name))
        np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_a_network_that_starts_with_normalization_of_uint8(rng):
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    x = keras.layers.BatchNormalization()(inputs)
    outputs = keras.layers.Conv2D(2, 3)(x)
    model = keras.Model(inputs, outputs)
    replaced = replace_normalization(model, initial_ratios={"batch": 1.0})
    pixels = rng.integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    expected = numpy(model(pixels))
    np.testing.assert_allclose(numpy(replaced(pixels)), expected, rtol=1e-3)
    replaced.compile("sgd", "mse")
    replaced.train_on_batch(pixels, np.zeros(expected.shape, "float32"))


def test_half_precision_inputs_are_rounded_once(rng):
    """float32 inputs under mixed_float16 must not lose digits before the moments."""
    x = images(rng) + np.float32(3000)  # float16 keeps steps of 2 here
    layer = ExemplarNormalization(dtype="mixed_float16")
    exact = numpy(ExemplarNormalization(dtype="float32")(x, training=True))
    half = numpy(ops.cast(layer(x, training=True), "float32"))
    np.testing.assert_allclose(half, exact, atol=5e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_does_not_round_the_weights(rng, policy):
    x = images(rng)
    exact, mixed = (ExemplarNormalization(dtype=d) for d in ("float32", policy))
    for layer in (exact, mixed):
        layer.build(x.shape)
    backends.randomize(exact, rng)
    for variable, source in zip(mixed.variables, exact.variables, strict=True):
        variable.assign(source)
    for training in (False, True):
        _, expected = exact(x, training=training, return_ratios=True)
        _, ratios = mixed(x, training=training, return_ratios=True)
        np.testing.assert_allclose(numpy(ratios), numpy(expected), rtol=1e-6)
    np.testing.assert_array_equal(numpy(mixed.moving_mean), numpy(exact.moving_mean))


def test_masks_come_from_the_layer_before(rng):
    tokens = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])
    embedding = keras.layers.Embedding(6, 8, mask_zero=True)
    layer = ExemplarNormalization()
    inputs = keras.Input((None,))
    outputs = layer(embedding(inputs))
    assert outputs._keras_mask is not None, "passed on"
    model = keras.Model(inputs, outputs)
    by_hand = layer(embedding(tokens), mask=tokens != 0)
    np.testing.assert_allclose(numpy(model(tokens)), numpy(by_hand), atol=1e-6)
    ignoring = layer(numpy(embedding(tokens)))
    assert np.abs(numpy(ignoring) - numpy(by_hand)).max() > 1e-2


def test_what_a_mask_hides_enters_no_statistic(rng):
    x = images(rng, (3, 6, 8))
    mask = np.ones((3, 6), bool)
    mask[:, 4:] = False
    layer = ExemplarNormalization()
    expected = numpy(layer(x, training=True, mask=mask))[:, :4]
    moved = numpy(layer.moving_mean)
    x[:, 4:] = np.nan
    other = ExemplarNormalization()
    np.testing.assert_array_equal(
        numpy(other(x, training=True, mask=mask))[:, :4], expected
    )
    np.testing.assert_array_equal(numpy(other.moving_mean), moved)
    short = ExemplarNormalization()
    np.testing.assert_allclose(
        numpy(short(x[:, :4], training=True)), expected, atol=1e-5
    )


@pytest.mark.parametrize("training", [True, False])
def test_every_mode_computes_the_same(rng, training):
    """Eager, graph and XLA on TensorFlow; op by op and jit on JAX."""
    x = images(rng, (4, 6, 6, 8))
    cotangent = images(rng, x.shape)
    steps = {}
    layer = ExemplarNormalization()
    layer.build(x.shape)
    backends.randomize(layer, rng)
    start = [numpy(v) for v in layer.variables]
    for mode in backends.MODES:
        for variable, value in zip(layer.variables, start, strict=True):
            variable.assign(value)
        steps[mode] = backends.step(layer, x, cotangent, training, mode=mode)
    first = steps.pop(backends.MODES[0])
    for other in steps.values():
        for name in ("outputs", "ratios", "dx"):
            np.testing.assert_allclose(
                getattr(other, name), getattr(first, name), atol=1e-5, rtol=1e-5
            )
        for part in ("gradients", "state"):
            for name, value in getattr(first, part).items():
                scale = max(1, np.abs(value).max())
                actual = getattr(other, part)[name]
                assert np.abs(actual - value).max() <= 1e-5 * scale, name
