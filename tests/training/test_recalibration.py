"""Moving statistics over data: exact, everywhere, all or nothing."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import (
    BatchKalmanNormalization,
    recalibrate,
    replace_normalization,
)
from keras_en.keras_private import layers_of
from keras_en.models import norms
from tests.backends import images, numpy
from tests.training.networks import SHAPE, convolutional, network, one_and_many

NORMS = ["bn", "en", "sn", "ssn"]
if keras.backend.backend() != "torch":
    NORMS.append("sync_bn")
SYNCHRONIZED = keras.backend.backend() != "torch"


def test_two_batches_by_hand():
    """Of 1, 3 and 8, in batches of two and one: the mean is 4, the variance
    `(9 + 1 + 16) / 3`. That of the batches, 1 and 0, knows nothing of their means."""
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((1,)), norm])
    recalibrate(model, np.array([[1.0], [3.0], [8.0]]), batch_size=2)
    assert numpy(norm.moving_mean).item() == pytest.approx(4)
    assert numpy(norm.moving_variance).item() == pytest.approx(26 / 3)


def moving(model):
    return {
        layer.name: (numpy(layer.moving_mean), numpy(layer.moving_variance))
        for layer in layers_of(model)
        if getattr(layer, "moving_mean", None) is not None
    }


@pytest.mark.parametrize("norm", NORMS)
def test_statistics_are_those_of_the_data(rng, norm):
    """The first layer sees the data itself; batches of 8, 8 and 5."""
    x = images(rng, (21, *SHAPE)) * [1, 5, 0.1] + [0, 100, -3]
    model = keras.Sequential([keras.Input(SHAPE), norms.normalization(norm, 3)])
    recalibrate(model, x.astype("float32"), batch_size=8)
    ((mean, variance),) = moving(model).values()
    wide = x.astype("float32").astype("float64")
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, wide.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_with_a_single_batch_evaluation_is_training(rng, norm):
    x = images(rng, (16, 8, 8, 3))
    model = convolutional(norm)
    recalibrate(model, x, batch_size=16)
    training, evaluation = (numpy(model(x, training=t)) for t in (True, False))
    np.testing.assert_allclose(evaluation, training, atol=1e-5)


def test_masks_take_positions_away(rng):
    x = images(rng, (6, 5, 4))
    lengths = np.array([5, 4, 3, 2, 1, 0])
    valid = np.arange(5) < lengths[:, None]
    x[~valid] = 0
    inputs = keras.Input((5, 4))
    masked = layers.Masking()(inputs)
    outputs = [norms.normalization(n, 4, name=n)(masked) for n in ("bn", "en")]
    model = keras.Model(inputs, outputs)
    recalibrate(model, x, batch_size=4)
    positions = x[valid].astype("float64")
    for mean, variance in moving(model).values():
        np.testing.assert_allclose(mean, positions.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variance, positions.var(0), rtol=1e-5)


def test_a_mask_may_hide_a_channel(rng):
    """Keras's mask lacks the last axis, here behind that of the channels."""
    inputs = keras.Input((2, 3))
    masked = layers.Masking()(inputs)
    outputs = [norms.normalization(n, 2, axis=1, name=n)(masked) for n in ("bn", "en")]
    model = keras.Model(inputs, outputs)
    x = images(rng, (4, 2, 3)) + 5
    x[:, 1] = x[1, 0] = 0
    recalibrate(model, x, batch_size=2)
    seen = x[[0, 2, 3], 0].astype("float64")
    for name in ("bn", "en"):
        layer = model.get_layer(name)
        mean, variance = numpy(layer.moving_mean), numpy(layer.moving_variance)
        np.testing.assert_allclose(mean, [seen.mean(), 0], rtol=1e-5)
        np.testing.assert_allclose(variance, [seen.var(), 1], rtol=1e-5)


def test_the_rest_behaves_as_in_evaluation(rng):
    x = images(rng, (8, *SHAPE))
    inputs = keras.Input(SHAPE)
    y = layers.BatchNormalization()(layers.Dropout(0.9)(inputs))
    model = keras.Model(inputs, y)
    state = [numpy(v) for v in model.layers[1].variables]
    recalibrate(model, x)
    ((mean, _),) = moving(model).values()
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    for variable, value in zip(model.layers[1].variables, state, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


def test_frozen_layers_and_shared_ones(rng):
    x = images(rng, (8, *SHAPE))
    frozen = layers.BatchNormalization(name="frozen", trainable=False)
    shared = layers.BatchNormalization(name="shared")
    inputs = keras.Input(SHAPE)
    both = layers.Add()([shared(frozen(inputs)), shared(inputs + 2.0)])
    model = keras.Model(inputs, both)
    recalibrate(model, x, batch_size=3)
    statistics = moving(model)
    np.testing.assert_array_equal(statistics["frozen"][0], 0)
    wide = x.astype("float64")
    scale = 1 / np.sqrt(1 + frozen.epsilon)
    seen = np.concatenate([wide * scale, wide + 2])
    mean, variance = statistics["shared"]
    np.testing.assert_allclose(mean, seen.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, seen.var((0, 1, 2)), rtol=1e-4)


def test_batches_of_every_kind_and_steps(rng):
    x = images(rng, (12, *SHAPE))

    def statistics(data, **kwargs):
        model = network(synchronized=SYNCHRONIZED)
        recalibrate(model, data, **kwargs)
        return moving(model)

    expected = statistics(x[:8], batch_size=4)
    batches = [(x[i : i + 4], np.zeros(4)) for i in range(0, 12, 4)]
    endless = itertools.cycle(batches)
    for each in (
        statistics(x, batch_size=4, steps=2),
        statistics(endless, steps=2),
        statistics(batches, steps=2),
        statistics(lambda epoch: iter(batches), steps=2),
        statistics(lambda epoch: (batch for batch, _ in batches[:2])),
    ):
        np.testing.assert_equal(list(each.values()), list(expected.values()))


@pytest.mark.thorough(4)
@pytest.mark.tensorflow
@pytest.mark.parametrize("norm", [*NORMS, "plain bn"])
@pytest.mark.parametrize("samples", [16, 5], ids="samples-{}".format)
def test_replicas_are_one_device(rng, strategy, samples, norm):
    """With 5 samples and batches of 4 one replica has none. Of the statistics of a
    layer that is not synchronized only those of the first are those of one device."""
    x = images(rng, (samples, *SHAPE))
    kwargs = {} if norm == "plain bn" else {"synchronized": True}
    kind = norm.removeprefix("plain ")

    def build():
        keras.utils.set_random_seed(0)
        count = 1 if norm == "plain bn" else 2
        normalizations = [norms.normalization(kind, 3, **kwargs) for _ in range(count)]
        return keras.Sequential([keras.Input(SHAPE), *normalizations])

    one, many = one_and_many(strategy, build)
    for model in (one, many):
        recalibrate(model, x, batch_size=4)
    for ours, theirs in zip(moving(one).values(), moving(many).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    copies = many.layers[-1].moving_mean.value.values
    for copy in copies:
        np.testing.assert_array_equal(copy.numpy(), copies[0].numpy())


@pytest.mark.parametrize("norm", ["bn", "en", "sn"])
def test_the_gap_of_a_short_training_closes(rng, norm):
    """20 steps with momentum 0.99 leave 0.82 of where the statistics began."""
    y = rng.integers(0, 2, 128)
    x = images(rng, (128, 8, 8, 3)) + 3 * y[:, None, None, None]
    x = x.astype("float32")
    model = convolutional(norm, classes=2)
    model.compile(
        keras.optimizers.SGD(0.05),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=32, epochs=5, verbose=0)

    def gap():
        a, b = (numpy(model(x, training=t)) for t in (True, False))
        return np.abs(a - b).mean()

    before = gap()
    recalibrate(model, x, batch_size=64)
    after = gap()
    assert before > 0.05 and after < 0.1 * before, (before, after)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.95


def test_after_surgery_on_a_network_without_moving_statistics(rng):
    x = images(rng, (16, 8, 8, 3))
    model = convolutional("gn")
    new = replace_normalization(model, "bn")
    recalibrate(new, x, batch_size=16)
    np.testing.assert_allclose(
        numpy(new(x, training=False)), numpy(new(x, training=True)), atol=1e-5
    )


class Broken(Exception):
    pass


def test_all_or_nothing(rng):
    x = images(rng, (8, *SHAPE))
    model = network(synchronized=SYNCHRONIZED)
    before = moving(model)

    def batches(epoch):
        yield x
        raise Broken("halfway")

    def refused(match, data, error=ValueError, **kwargs):
        with pytest.raises(error, match=match):
            recalibrate(model, data, **kwargs)
        np.testing.assert_equal(moving(model), before)
        assert "call" not in vars(model.layers[1])

    refused("halfway", batches, Broken)
    refused(
        "`x` must be at least 3 batches. Received: x.batches=2", [(x,), (x,)], steps=3
    )
    refused("`x` must be at least 1 batches. Received: x.batches=0", [])
    refused("as many tensors as the model has inputs, 1.*=2", [((x, x),)])
    refused("`x` must be finite", x * np.nan)
    refused("`steps` must be an integer of at least 1", x, steps=0)
    refused("`batch_size` must be", x, batch_size=0)
    refused("must be arrays, an iterable", 3, TypeError)
    with pytest.raises(ValueError, match="`model` must be a keras.Model that is built"):
        recalibrate("network", x)
    frozen = network(synchronized=SYNCHRONIZED)
    frozen.trainable = False
    with pytest.raises(ValueError, match="trainable layers that keep moving stat"):
        recalibrate(frozen, x)
    predicting = keras.Sequential([keras.Input((1,)), BatchKalmanNormalization()])
    with pytest.raises(ValueError, match="`model` must be a network without predict"):
        recalibrate(predicting, np.ones((2, 1)))


class Plain(keras.layers.BatchNormalization):
    """One that takes no mask, as many that people write."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=training)


def test_a_call_without_a_mask_and_one_that_was_set(rng):
    x = rng.normal(2, 1, size=(8, 4, 4, 3)).astype("float32")
    model = keras.Sequential([keras.Input((4, 4, 3)), Plain()])
    layer, calls = model.layers[0], []
    original = layer.call

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    layer.call = counted
    recalibrate(model, x)
    np.testing.assert_allclose(numpy(layer.moving_mean), x.mean((0, 1, 2)), rtol=1e-5)
    assert layer.call is counted and calls
