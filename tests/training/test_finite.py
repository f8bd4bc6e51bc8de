"""Trainings that meet numbers that are not finite."""

import contextlib

import keras
import numpy as np
import pytest

from keras_en import training
from keras_en.training import finite
from tests.training.networks import assert_equal, network

pytestmark = pytest.mark.tensorflow


def line(rate=0.25):
    """`y = w x`, `w = 1`, by one sample a step."""
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def test_by_hand():
    """Sample 2 of 4 is NaN: the mean of the losses is, from step 2 on."""
    x = np.array([[1.0], [1.0], [np.nan], [1.0]])
    options = {"batch_size": 1, "verbose": 0, "shuffle": False}
    message = r"loss is nan at epoch 0, step 2, .* not finite in `x`\."
    with pytest.raises(FloatingPointError, match=message):
        training.fit(line(), x, np.zeros((4, 1)), **options)


def test_a_layer_is_named():
    """A learning rate beyond all measure: the weight overflows, then the loss."""
    x = np.ones((4, 1), "float32")
    options = {"batch_size": 1, "verbose": 0, "shuffle": False}
    message = r"epoch 0, step 1, .* the first variable that is not finite: .*dense.*/k"
    with pytest.raises(FloatingPointError, match=message):
        training.fit(line(1e30), x, x * 0, **options)


def test_a_weight_that_is_not_finite_is_not_written(tmp_path):
    """The loss of the only step was finite, its update was not."""
    x = np.ones((1, 1), "float32")
    with pytest.raises(FloatingPointError, match=r"dense.*/kernel is not finite befo"):
        training.fit(line(2e38), x, x * 0, verbose=0, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_checkpoint_of_before_stays(data, strategy, tmp_path, replicas):
    """One NaN image in the second epoch; what is resumed is the end of the first."""
    x, y = data

    def make():
        with contextlib.nullcontext() if replicas == 1 else strategy.scope():
            return network()

    def batches(epoch):
        images = x.copy()
        if epoch == 1:
            images[9] = np.nan
        return [(images[i : i + 8], y[i : i + 8]) for i in range(0, len(x), 8)]

    saved = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")
    options = {"verbose": 0, "checkpoint": tmp_path / "run"}
    good, again = make(), make()
    training.fit(good, batches, epochs=1, **options)
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 1, .*`x`"):
        training.fit(
            make(), batches, epochs=3, callbacks=[saved], resume=True, **options
        )
    assert not (tmp_path / "best.keras").exists()
    training.fit(again, batches, epochs=1, resume=True, **options)
    assert_equal(good, again, 0)


def test_losses_are_read_before_the_epoch_ends(monkeypatch):
    monkeypatch.setattr(finite, "EVERY", 4)
    x = np.ones((32, 1), "float32")
    x[1] = np.nan
    steps = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda step, logs: steps.append(step)
    )
    options = {"batch_size": 1, "verbose": 0, "shuffle": False, "callbacks": [count]}
    with pytest.raises(FloatingPointError, match="step 1,"):
        training.fit(line(), x, x, **options)
    assert steps == [0, 1, 2, 3]


def test_a_constant_may_be_infinite(tmp_path):
    constant = keras.initializers.Constant(-np.inf)
    frozen = keras.layers.Dense(1, bias_initializer=constant, trainable=False)
    layers = [frozen, keras.layers.ReLU(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.compile("sgd", "mse")
    x = np.ones((2, 1), "float32")
    training.fit(model, x, x, verbose=0, checkpoint=tmp_path)
    assert (tmp_path / "checkpoint.npz").exists()
