"""Moving statistics over data: exact, everywhere, all or nothing."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import recalibrate, replace_normalization
from keras_en.models import CifarResNet, norms
from tests import reference
from tests.backends import images, numpy
from tests.training.networks import SHAPE, network

NORMS = ["bn", "en", "sn", "ssn"]
if keras.backend.backend() != "torch":
    NORMS.append("sync_bn")


SYNCHRONIZED = keras.backend.backend() != "torch"


def moving(model):
    return {
        layer.name: (numpy(layer.moving_mean), numpy(layer.moving_variance))
        for layer in model._flatten_layers()
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
    model = CifarResNet(8, input_shape=(8, 8, 3), norm=norm)
    recalibrate(model, x, batch_size=16)
    expected, found = (numpy(model(x, training=t)) for t in (True, False))
    np.testing.assert_allclose(found, expected, atol=1e-5)


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
    mean, variance = reference._moments(
        x.astype("float64"), valid[..., None], axes=(0, 1)
    )
    for found in moving(model).values():
        np.testing.assert_allclose(found[0], mean.ravel(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], variance.ravel(), rtol=1e-5)


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
    found = moving(model)
    np.testing.assert_array_equal(found["frozen"][0], 0)
    wide = x.astype("float64")
    scale = 1 / np.sqrt(1 + frozen.epsilon)
    seen = np.concatenate([wide * scale, wide + 2])
    np.testing.assert_allclose(found["shared"][0], seen.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["shared"][1], seen.var((0, 1, 2)), rtol=1e-4)


def test_batches_of_every_kind_and_steps(rng):
    x = images(rng, (12, *SHAPE))

    def of(given, **kwargs):
        model = network(synchronized=SYNCHRONIZED)
        recalibrate(model, given, **kwargs)
        return moving(model)

    expected = of(x[:8], batch_size=4)
    batches = [(x[i : i + 4], np.zeros(4)) for i in range(0, 12, 4)]
    endless = itertools.cycle(batches)
    found = [
        of(x, batch_size=4, steps=2),
        of(endless, steps=2),
        of(batches, steps=2),
        of(lambda epoch: iter(batches), steps=2),
        of(lambda epoch: (batch for batch, _ in batches[:2])),
    ]
    for each in found:
        for one, other in zip(expected.values(), each.values(), strict=True):
            np.testing.assert_array_equal(one, other)


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
        norms_of = [norms.normalization(kind, 3, **kwargs) for _ in range(2)]
        if norm == "plain bn":
            norms_of = norms_of[:1]
        return keras.Sequential([keras.Input(SHAPE), *norms_of])

    one = build()
    with strategy.scope():
        many = build()
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
    model = CifarResNet(8, input_shape=(8, 8, 3), classes=2, norm=norm)
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
    model = CifarResNet(8, input_shape=(8, 8, 3), norm="gn")
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

    def refused(match, given, error=ValueError, **kwargs):
        with pytest.raises(error, match=match):
            recalibrate(model, given, **kwargs)
        for old, new in zip(before.values(), moving(model).values(), strict=True):
            np.testing.assert_array_equal(old, new)
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
