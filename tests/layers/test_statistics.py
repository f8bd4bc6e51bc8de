"""The statistics: Keras's own layers, moving averages, numbers that hurt."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends
from tests.backends import images, numpy


def test_moving_statistics_by_hand():
    """They start at 0 and 1; a batch with mean 4 and variance 9 moves them a tenth."""
    layer = ExemplarNormalization(normalizers=["batch"], momentum=0.9)
    layer(np.array([[1.0], [7.0]], "float32"), training=True)
    np.testing.assert_allclose(numpy(layer.moving_mean), [0.4], rtol=1e-6)
    np.testing.assert_allclose(numpy(layer.moving_variance), [1.8], rtol=1e-6)


@pytest.mark.parametrize(
    "pool, peer",
    [
        ("batch", lambda: keras.layers.BatchNormalization()),
        ("layer", lambda: keras.layers.LayerNormalization(axis=[1, 2, 3])),
        ("instance", lambda: keras.layers.GroupNormalization(groups=-1)),
        ("group", lambda: keras.layers.GroupNormalization(groups=4)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_pool_of_one_is_the_keras_layer(rng, pool, peer, training):
    x = images(rng)
    ours, theirs = ExemplarNormalization(normalizers=[pool], groups=4), peer()
    np.testing.assert_allclose(
        numpy(ours(x, training=training)),
        numpy(theirs(x, training=training)),
        atol=1e-5,
    )


def test_a_pool_of_batch_masks_as_keras_does(rng):
    x = images(rng, (4, 6, 8))
    mask = rng.random((4, 6)) < 0.7
    ours = ExemplarNormalization(normalizers=["batch"])
    theirs = keras.layers.BatchNormalization()
    np.testing.assert_allclose(
        numpy(ours(x, training=True, mask=mask)),
        numpy(theirs(x, training=True, mask=mask)),
        atol=1e-5,
    )
    for name in ("moving_mean", "moving_variance"):
        expected = numpy(getattr(theirs, name))
        np.testing.assert_allclose(numpy(getattr(ours, name)), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 3, 3), (5, 4, 2, 3)], ids=str)
def test_the_mask_of_keras_before_channels_first(shape, rng):
    """Keras's mask lacks the last axis, not that of the channels."""
    inputs = keras.Input(shape[1:])
    hidden = keras.layers.Masking()(inputs)
    options = dict(axis=1, momentum=0.0)
    ours = ExemplarNormalization(normalizers=["batch"], **options)
    theirs = keras.layers.BatchNormalization(**options)
    model = keras.Model(inputs, [ours(hidden), theirs(hidden)])
    x = images(rng, shape) + 5
    x[0, 1] = x[2:4, 0] = 0
    for training in (True, False):
        y, expected = map(numpy, model(x, training=training))
        np.testing.assert_allclose(y, expected, atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        expected = numpy(getattr(theirs, name))
        np.testing.assert_allclose(numpy(getattr(ours, name)), expected, atol=1e-5)


def test_a_channel_that_is_masked_leaves_its_moving_statistics(rng):
    layer = ExemplarNormalization(axis=1, groups=2, normalizers=["group", "batch"])
    mask = np.ones((3, 4), bool)
    mask[:, 1:] = False
    y = layer(images(rng, (3, 4, 6)), mask=mask, training=True)
    assert np.isfinite(numpy(y)).all()
    moved = numpy(layer.moving_variance) != 1
    np.testing.assert_array_equal(moved, [True, False, False, False])


def test_the_smallest_epsilon_has_finite_gradients(rng):
    x = np.full((3, 4, 4, 8), 2.5, "float32")
    layer = ExemplarNormalization(epsilon=1e-20)
    layer.build(x.shape)
    cotangent = rng.normal(size=x.shape).astype("float32")
    step = backends.step(layer, x, cotangent, True)
    for value in (step.outputs, step.dx, *step.gradients.values()):
        assert np.isfinite(value).all()


def test_the_configuration_of_keras_layer():
    theirs = keras.layers.BatchNormalization(momentum=0.5, axis=1, renorm_momentum=0.3)
    ours = ExemplarNormalization.from_config(theirs.get_config())
    assert (ours.momentum, ours.axis, ours.name) == (0.5, 1, theirs.name)


def test_moving_statistics_follow_keras_over_20_steps(rng):
    ours, theirs = ExemplarNormalization(), keras.layers.BatchNormalization()
    for _ in range(20):
        x = images(rng, (8, 4, 4, 6))
        ours(x, training=True)
        theirs(x, training=True)
    for name in ("moving_mean", "moving_variance"):
        expected = numpy(getattr(theirs, name))
        np.testing.assert_allclose(numpy(getattr(ours, name)), expected, atol=1e-6)


def test_an_unseen_batch_leaves_the_moving_statistics(rng):
    layer = ExemplarNormalization(normalizers=["layer", "batch"])
    x = images(rng, (3, 4, 6))
    layer(x, training=True)
    before = [numpy(v) for v in (layer.moving_mean, layer.moving_variance)]
    y = layer(x, training=True, mask=np.zeros((3, 4), bool))
    assert np.isfinite(numpy(y)).all()
    layer(x[:0], training=True)
    layer(x[:, :0], training=True)
    for old, new in zip(
        before, (layer.moving_mean, layer.moving_variance), strict=True
    ):
        np.testing.assert_array_equal(numpy(new), old)


def test_without_momentum_the_moving_statistics_are_those_of_the_batch(rng):
    layer = ExemplarNormalization(momentum=0.0)
    layer.build((None, 4, 4, 8))
    layer.moving_variance.assign(np.full(8, 1e8))
    x = images(rng, (3, 4, 4, 8))
    layer(x, training=True)
    expected = x.astype("float64").var((0, 1, 2))
    np.testing.assert_allclose(numpy(layer.moving_variance), expected, rtol=1e-5)


def test_settings_may_change_after_build(rng):
    """As in BatchNormalization, whose attributes are read by every call."""
    x = images(rng, (3, 4, 4, 8))
    layer, fresh = ExemplarNormalization(), ExemplarNormalization(epsilon=0.5)
    layer(x), fresh(x)
    layer.epsilon = 0.5
    for training in (False, True):
        y, expected = layer(x, training=training), fresh(x, training=training)
        np.testing.assert_allclose(numpy(y), numpy(expected), atol=1e-6)


def test_frozen_uses_and_keeps_the_moving_statistics(rng):
    layer = ExemplarNormalization()
    layer.build((None, 5, 6, 8))
    backends.randomize(layer, rng)
    x = images(rng)
    inference = numpy(layer(x, training=False))
    layer.trainable = False
    before = numpy(layer.moving_mean)
    np.testing.assert_allclose(numpy(layer(x, training=True)), inference, atol=1e-6)
    np.testing.assert_array_equal(numpy(layer.moving_mean), before)
    _, ratios = layer(x, training=True, return_ratios=True)
    assert np.ptp(numpy(ratios), axis=0).max() > 1e-3, "ratios stay per-sample"


@pytest.mark.thorough(4)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mean", [1e2, 1e4])
@pytest.mark.parametrize("mode", backends.MODES)
def test_large_means(rng, mode, mean, training):
    from tests import reference

    x = (rng.normal(size=(4, 56, 56, 8)) + mean).astype("float32")
    layer = ExemplarNormalization()
    layer.build(x.shape)
    weights = backends.randomize(layer, rng)
    if not training:
        layer.moving_mean.assign(np.full(8, mean, "float32"))
    weights = {v.name: numpy(v).astype("float64") for v in layer.variables}
    moving = weights["moving_mean"], weights["moving_variance"]
    expected = reference.exemplar_normalization(
        x, weights, reduction=4, batch_statistics=None if training else moving
    )
    step = backends.step(layer, x, np.ones_like(x), training, mode=mode)
    assert np.abs(step.outputs - expected.outputs).max() <= 5e-3


@pytest.mark.parametrize(
    "x",
    [
        np.full((3, 4, 4, 8), 2.5, "float32"),
        np.zeros((3, 4, 4, 8), "float32"),
        np.linspace(-1, 1, 24, dtype="float32").reshape(3, 1, 1, 8),
        np.linspace(-1, 1, 128, dtype="float32").reshape(1, 4, 4, 8),
        np.ones((1, 1, 1, 8), "float32"),
        np.linspace(-1, 1, 96, dtype="float32").reshape(3, 4, 1, 8) * ([1] * 7 + [0]),
        np.full((3, 4, 4, 8), 6e4, "float16"),
        (np.arange(384) % 7 * 1e4).reshape(3, 4, 4, 8).astype("float16"),
    ],
    ids=[
        "constant",
        "zeros",
        "1x1",
        "batch-of-1",
        "one-number",
        "dead-channel",
        "float16-constant",
        "float16",
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_everything_stays_finite(rng, x, training):
    x = x.astype(np.float16 if x.dtype == np.float16 else np.float32)
    layer = ExemplarNormalization(
        normalizers=["instance", "layer", "group", "batch"], groups=2
    )
    layer.build(x.shape)
    backends.randomize(layer, rng)
    step = backends.step(layer, x, rng.normal(size=x.shape).astype("f"), training)
    for value in (step.outputs, step.ratios, step.dx, *step.gradients.values()):
        assert np.isfinite(value).all()
    for value in step.state.values():
        assert np.isfinite(value).all()
