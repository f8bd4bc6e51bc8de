"""Moving statistics against those of batches."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import BatchKalmanNormalization
from keras_en.training.confusion import confusion
from keras_en.training.honest import Gap, batch_statistics, statistics_gap
from tests.backends import images, numpy
from tests.training.networks import convolutional


def values(model):
    return [numpy(variable.value) for variable in model.variables]


def test_by_hand():
    """Columns around 5 and 0: untrained statistics see the first alone. Frozen, the
    layer uses them in training, too."""
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((2,)), norm, layers.Softmax()])
    batches = [(np.array([[5.0, 0.5], [5.0, -0.5]]), np.array([1, 0]))]
    assert statistics_gap(model, batches, 2) == Gap("accuracy", 0.5, 1.0)
    norm.trainable = False
    assert statistics_gap(model, batches, 2) is None


@pytest.mark.parametrize("norm", ["bn", "en", "sn", "ssn"])
def test_outputs_are_those_of_training(rng, norm):
    """Without dropout, which the model that predicts has; nothing of it changes."""
    x = images(rng, (6, 8, 8, 3)) * 3 + 2
    model = convolutional(norm)
    inner = layers.Dropout(0.9)(model.layers[-2].output)
    dropping = keras.Model(model.inputs, model.layers[-1](inner))
    outside, before = dropping.predict_on_batch(x), values(model)
    with batch_statistics(dropping):
        inside = dropping.predict_on_batch(x)
    for now, then in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(dropping.predict_on_batch(x), outside)
    expected = numpy(model(x, training=True))
    np.testing.assert_allclose(inside, expected, atol=1e-6)
    assert np.abs(inside - outside).max() > 1e-3


def test_an_error_inside_changes_nothing(rng):
    model, x = convolutional("bn"), images(rng, (6, 8, 8, 3))
    before = values(model)
    with pytest.raises(ZeroDivisionError), batch_statistics(model):
        model.predict_on_batch(x)
        raise ZeroDivisionError
    for now, then in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert "call" not in vars(model.get_layer("first"))


def test_a_trained_network_whose_momentum_forgets_nothing(rng):
    """It tells two classes apart in training; in evaluation, with statistics that are
    still those of its start, it does not."""
    labels = rng.integers(0, 2, 64)
    x = 100 + np.where(labels, 1.0, -1.0)[:, None] * rng.uniform(0.5, 1, (64, 3))
    norm = layers.BatchNormalization(momentum=0.9999)
    model = keras.Sequential(
        [keras.Input((3,)), norm, layers.Dense(2, activation="softmax")]
    )
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    model.fit(x, labels, batch_size=32, epochs=5, verbose=0)
    batches = [(x[:32], labels[:32]), (x[32:], labels[32:])]
    gap = statistics_gap(model, batches, 2)
    assert gap.batch == 1.0 and gap.moving < 0.8
    assert "statistics.momentum" in gap.warning
    counted = confusion(model, batches, 2)
    assert statistics_gap(model, batches, 2, moving=counted) == gap


def test_segmentation(rng):
    norm = layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((4, 4, 2)), norm, layers.Softmax()])
    x = rng.normal(size=(3, 4, 4, 2)) + [9, 0]
    labels = (x - [9, 0]).argmax(axis=-1)
    labels[0, 0] = 7
    gap = statistics_gap(model, [(x, labels)], 2, void=7, segmentation=True)
    assert gap.metric == "mean IoU" and gap.batch > gap.moving


@pytest.mark.parametrize("make", [layers.LayerNormalization, BatchKalmanNormalization])
def test_networks_without_two_kinds(make):
    model = keras.Sequential([keras.Input((2,)), make(), layers.Softmax()])
    assert statistics_gap(model, [(np.zeros((1, 2)), np.zeros(1))], 2) is None


@pytest.mark.tensorflow
def test_on_replicas(rng, strategy):
    x, labels = images(rng, (6, 8, 8, 3)), rng.integers(0, 10, 6)
    with strategy.scope():
        model = convolutional("bn")
    before = values(model)
    gap = statistics_gap(model, [(x, labels)], 10)
    expected = numpy(convolutional("bn")(x, training=True)).argmax(axis=1) == labels
    assert gap.batch == expected.mean()
    for now, then in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    "moving, batch, words",
    [
        (0.5, 0.55, None),
        (0.55, 0.5, None),
        (0.108, 0.915, "is 10.8 % with moving statistics and 91.5 % with those of"),
        (0.9, 0.8, "Those of batches are worse"),
        (float("nan"), float("nan"), None),
    ],
)
def test_more_than_five_points(moving, batch, words):
    warning = Gap("accuracy", moving, batch).warning
    assert warning is None if words is None else words in warning
