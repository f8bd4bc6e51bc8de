"""Losses that are no mean of Keras's own over samples, on several replicas."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_en import ExemplarNormalization, training
from keras_en.training.crossentropy import Crossentropy
from tests.training.networks import assert_equal, assert_histories, one_and_many

pytestmark = pytest.mark.tensorflow


def mean(y, outputs):
    return ops.mean(ops.square(y - outputs))


def total(y, outputs):
    return ops.sum(ops.square(y - outputs))


def contrast(y, outputs):
    """Of each sample, against the others of its batch."""
    return ops.mean(ops.square(outputs - ops.mean(outputs, axis=0)), axis=-1)


class Own(keras.Model):
    """A mean of its own, beside one of Keras's, and what layers add."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        own = ops.mean(ops.abs(y - y_pred)) + 0.1 * ops.mean(x)
        theirs = keras.losses.MeanSquaredError()(y, y_pred)
        return own + theirs + sum(self.losses)


class Random(keras.Model):
    """One that draws: no two of its values are equal."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        noise = keras.random.normal((), seed=self.draws)
        return mean(y, y_pred) + 1e-3 * noise


def regression(loss, kind=keras.Model):
    def model():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        x = keras.layers.Dense(4, kernel_regularizer="l2")(inputs)
        x = ExemplarNormalization(synchronized=True, groups=2)(x)
        outputs = keras.layers.Dense(2, activation="sigmoid")(x)
        built = kind(inputs, outputs)
        built.draws = keras.random.SeedGenerator(0)
        built.compile(keras.optimizers.SGD(0.1), loss)
        return built

    return model


@pytest.fixture
def data(rng):
    return rng.normal(size=(11, 5)).astype("float32"), rng.random((11, 2), "float32")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (mean, keras.Model),
        (keras.losses.Dice(axis=-1), keras.Model),
        (None, Own),
    ],
    ids=["function", "dice", "compute_loss"],
)
def test_scalars_are_those_of_one_device(data, strategy, loss, kind):
    one, many = one_and_many(strategy, regression(loss, kind))
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    histories = [training.fit(m, *data, epochs=2, **options) for m in (one, many)]
    expected, losses = (history.history["loss"] for history in histories)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert_equal(one, many, 1e-5)
    theirs = regression(loss, kind)()
    theirs.fit(*data, **options)
    assert theirs.history.history["loss"] == pytest.approx(expected[:1], rel=1e-5)
    metrics = [
        training.evaluate(m, *data, batch_size=8, verbose=0) for m in (one, many)
    ]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5)


def test_void_is_spread_unevenly_over_replicas(rng, strategy):
    """The loss of a segmentation is that of one device."""
    images = rng.normal(size=(11, 5, 6, 3)).astype("float32")
    masks = rng.integers(0, 3, (11, 5, 6)).astype("int32")
    masks[:5, :4] = 255

    def segmentation():
        keras.utils.set_random_seed(1)
        layers = [keras.Input((5, 6, 3)), keras.layers.Conv2D(3, 1, use_bias=False)]
        model = keras.Sequential([*layers, keras.layers.Softmax()])
        model.compile(keras.optimizers.SGD(0.1), Crossentropy(ignore_class=255))
        return model

    one, many = one_and_many(strategy, segmentation)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    losses = [
        training.fit(m, images, masks, epochs=2, **options).history["loss"]
        for m in (one, many)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert_equal(one, many, 1e-5)


@pytest.mark.parametrize(
    "loss",
    [keras.losses.Dice(), keras.losses.Tversky(), "dice", total, contrast],
    ids=["dice", "tversky", "name", "sum", "contrast"],
)
def test_what_is_no_mean_over_samples_is_refused(data, strategy, loss):
    one, many = one_and_many(strategy, regression(loss))
    training.fit(one, *data, verbose=0)
    before = many.get_weights()
    for run in (training.fit, training.evaluate):
        with pytest.raises(ValueError, match="mean over samples.* one for each sample"):
            run(many, *data, verbose=0)
    for value, expected in zip(many.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


class Tracked(keras.Model):
    """Its loss counts in a metric of its own."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = mean(y[0], y_pred[0]) + mean(y[1], y_pred[1])
        self.own.update_state(loss, sample_weight=ops.shape(x)[0])
        return loss


@pytest.mark.parametrize("kind", [keras.Model, Tracked])
def test_several_outputs_and_what_they_are_counted_in(data, strategy, kind):
    def model():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        heads = [keras.layers.Dense(2, name=name)(inputs) for name in ("a", "b")]
        built = kind(inputs, heads)
        built.own = keras.metrics.Mean(name="own")
        built.compile("sgd", [mean, "mae"])
        return built

    x, y = data
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    histories = [
        training.fit(each, x, (y, y), epochs=2, **options).history
        for each in one_and_many(strategy, model)
    ]
    assert_histories(histories[1], histories[0], rtol=1e-5)


def test_a_loss_that_draws_counts_as_a_mean(data, strategy):
    with strategy.scope():
        model = regression(None, Random)()
    history = training.fit(model, *data, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_keras_trains_as_before_beside_it(data, strategy):
    """Keras's own division by the replicas is out of use in our steps alone."""
    expected = []
    for first in (False, True):
        with strategy.scope():
            model = regression("mse")()
        if first:
            training.evaluate(model, *data, verbose=0)
        # Even: Keras builds a model by the parts of the first batch.
        even = [values[:10] for values in data]
        model.fit(*even, batch_size=10, shuffle=False, verbose=0)
        expected.append(model.history.history["loss"])
    assert expected[0] == pytest.approx(expected[1], rel=1e-6)


@pytest.mark.parametrize(
    "loss, wrong, allowed",
    [
        ("sparse_categorical_crossentropy", 3, 2),
        (keras.losses.SparseCategoricalCrossentropy(), -1, 0),
        (keras.losses.SparseCategoricalCrossentropy(ignore_class=9), 8, 9),
    ],
    ids=["name", "below", "ignored"],
)
def test_labels_out_of_range(loss, wrong, allowed):
    """Three classes at four positions."""
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(3)])
    model.add(keras.layers.Activation("sigmoid"))
    model.compile("sgd", loss)
    x, labels = np.zeros((3, 4, 3)), np.zeros((3, 4))
    batches = [(x[i : i + 1], labels[i : i + 1]) for i in range(3)]
    labels[2, 1] = allowed
    assert np.isfinite(training.evaluate(model, batches, verbose=0)["loss"])
    labels[2, 1] = wrong
    for run, where in (
        (training.fit, "epoch 0, step 2"),
        (training.evaluate, "evaluation, step 2"),
    ):
        with pytest.raises(ValueError, match=rf"`y`.*Received: {wrong}.*{where}"):
            run(model, batches, verbose=0)


def test_labels_of_named_outputs_are_those_of_their_name():
    """Listed in another order than that of the alphabet."""
    inputs = keras.Input((2,))
    z = keras.layers.Dense(5, name="z")(inputs)
    a = keras.layers.Dense(3, name="a")(inputs)
    model = keras.Model(inputs, [z, a])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", {"z": loss, "a": loss})
    x, labels = np.zeros((2, 2)), {"z": np.array([0, 4]), "a": np.array([0, 2])}
    assert np.isfinite(training.evaluate(model, x, labels, verbose=0)["loss"])
    with pytest.raises(ValueError, match="from 0 to 2.*Received: 3"):
        training.evaluate(model, x, {**labels, "a": np.array([3, 0])}, verbose=0)


def test_labels_that_are_ignored_are_refused(rng, strategy):
    """Keras's mean is over those that are left: few in one replica, all in another."""

    def model():
        keras.utils.set_random_seed(0)
        built = keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=255)
        built.compile("sgd", loss)
        return built

    x = rng.normal(size=(8, 4, 3)).astype("float32")
    y = rng.integers(0, 3, (8, 4))
    y[5:] = 255
    one, many = one_and_many(strategy, model)
    training.fit(one, x, y, verbose=0)
    for run in (training.fit, training.evaluate):
        with pytest.raises(ValueError, match="Crossentropy.*ignore_class=255"):
            run(many, x, y, verbose=0)


def test_outputs_without_a_second_axis_are_looked_at(rng, strategy):
    """Keras's divergence of them is a sum over samples, its weighted mean none."""

    def model(loss):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        outputs = keras.layers.Dense(1, activation="sigmoid")(inputs)
        built = keras.Model(inputs, ops.squeeze(outputs, -1))
        built.compile("sgd", loss)
        return built

    x, y = rng.normal(size=(8, 5)).astype("float32"), rng.uniform(size=8)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    with strategy.scope():
        divergence, squares = model("kl_divergence"), model("mse")
    with pytest.raises(ValueError, match="mean over samples"):
        training.fit(divergence, x, y, **options)
    with pytest.raises(ValueError, match="mean over samples"):
        weights = rng.uniform(0, 3, 8)
        training.fit(squares, x, y, sample_weight=weights, **options)
    one = model("mse")
    for each in (one, squares):
        training.fit(each, x, y, **options)
    assert_equal(one, squares, 1e-6)


def balanced(y, outputs):
    """Each sample by how many of its batch have its label."""
    alike = ops.sum(ops.cast(y[:, None] == y[None, :], "float32"), axis=1)
    losses = keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)
    return losses / alike


def test_samples_far_apart_tell_what_neighbours_do_not(rng, strategy):
    x, y = rng.normal(size=(20, 5)).astype("float32"), np.arange(20) // 10
    with strategy.scope():
        many = regression(balanced)()
    with pytest.raises(ValueError, match="mean over samples"):
        training.fit(many, x, y, batch_size=20, shuffle=False, verbose=0)


@pytest.mark.parametrize("loss, refused", [(keras.losses.Dice(), True), (mean, False)])
def test_outputs_with_a_mask_are_looked_at(rng, strategy, loss, refused):
    with strategy.scope():
        layers = [
            keras.layers.Embedding(9, 3, mask_zero=True),
            keras.layers.Dense(2, activation="sigmoid"),
        ]
        many = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
        many.compile("sgd", loss)
    x = rng.integers(0, 9, (8, 4))
    y = rng.integers(0, 2, (8, 4, 2)).astype("float32")
    options = {"batch_size": 8, "verbose": 0}
    if refused:
        with pytest.raises(ValueError, match="mean over samples"):
            training.fit(many, x, y, **options)
        return
    assert np.isfinite(training.fit(many, x, y, **options).history["loss"]).all()
