"""Runs that go on though something of theirs is another."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, training

pytestmark = pytest.mark.tensorflow


def normalized(momentum, **options):
    kinds = keras.layers.BatchNormalization, ExemplarNormalization
    layers = [kind(momentum=momentum, **options) for kind in kinds]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fit(model, folder, epochs):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    options = {"batch_size": 4, "verbose": 0, "checkpoint": folder, "resume": True}
    return training.fit(model, x, x[:, :1], epochs=epochs, **options)


def test_more_epochs_with_another_momentum(tmp_path):
    """`statistics.momentum: auto` of a recipe depends on their number."""
    fit(normalized(0.5), tmp_path, 1)
    assert len(fit(normalized(0.9), tmp_path, 2).history["loss"]) == 2


def test_another_epsilon_is_refused(tmp_path):
    fit(normalized(0.5), tmp_path, 1)
    with pytest.raises(ValueError, match="options of layers: .*'epsilon': 0.1.* here"):
        fit(normalized(0.5, epsilon=0.1), tmp_path, 2)
