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


def test_a_loss_that_overflows():
    """A learning rate beyond all measure: the weight is -2e30, its square too much."""
    x = np.ones((4, 1), "float32")
    options = {"batch_size": 1, "verbose": 0, "shuffle": False}
    message = r"inf at epoch 0, step 1, .*; every layer is finite .*, its loss is not"
    with pytest.raises(FloatingPointError, match=message):
        training.fit(line(1e30), x, x * 0, **options)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_layer_is_named_steps_later(rng, strategy, replicas):
    """Of 40 steps the fourth has an image of 1e30: the loss is read behind them all."""
    scope = contextlib.nullcontext() if replicas == 1 else strategy.scope()
    with scope:
        model = keras.Sequential([keras.Input((2,))])
        for name, scale in (("one", 1e4), ("two", 1e4), ("three", 1e-8)):
            kernel = keras.initializers.Constant(scale * np.eye(2))
            layer = keras.layers.Dense(2, name=name, kernel_initializer=kernel)
            model.add(layer)
        model.add(keras.layers.BatchNormalization(name="norm"))
        model.add(keras.layers.Dense(2, name="last"))
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "mse")
    x = rng.normal(size=(160, 2)).astype("float32")
    x[13] = 1e32
    options = {"batch_size": 4, "verbose": 0, "shuffle": False}
    message = r"epoch 0, step 3, .* that is not finite: .*/two, in what it returns\."
    with pytest.raises(FloatingPointError, match=message):
        training.fit(model, x, x, **options)


def test_the_layer_whose_statistics_went_first(rng):
    """It reads 2e38 of every image, which is finite; the sum over four is not."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,))])
    for name in ("one", "two", "three"):
        model.add(keras.layers.Dense(2, name=name))
        model.add(keras.layers.BatchNormalization(name=f"norm_{name}"))
    model.get_layer("two").bias.assign([2e38, 2e38])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x = rng.normal(size=(8, 2)).astype("float32")
    message = r"epoch 0, step 0, .* that is not finite: .*norm_two/moving_mean\."
    with pytest.raises(FloatingPointError, match=message):
        training.fit(model, x, x, batch_size=4, verbose=0)


def test_a_search_that_fails_hides_nothing(monkeypatch):
    def broken(*arguments):
        raise RuntimeError

    monkeypatch.setattr(finite.keras_private, "mode", broken)
    model = line()
    model.layers[0].kernel.assign([[np.nan]])
    assert finite.first_not_finite(model, np.ones((1, 1))) == model.weights[0].path


def test_a_variance_that_is_infinite_is_not_written(tmp_path):
    norm = keras.layers.BatchNormalization(name="norm", trainable=False)
    model = keras.Sequential([keras.Input((2,)), norm, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((2, 2), "float32")
    overflow = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: norm.moving_variance.assign([1, np.inf])
    )
    options = {"callbacks": [overflow], "checkpoint": tmp_path / "run", "verbose": 0}
    message = r"norm/moving_variance is not finite"
    with pytest.raises(FloatingPointError, match=message):
        training.fit(model, x, x[:, :1], **options)
    assert not (tmp_path / "run").exists()


def test_embeddings(rng):
    """Their gradients are rows."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Embedding(5, 2), keras.layers.Flatten()]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = rng.integers(0, 5, (8, 3)), rng.normal(size=(8, 6)).astype("float32")
    training.fit(model, x, y, batch_size=4, verbose=0)
    y[5] = np.inf
    with pytest.raises(FloatingPointError, match="step 1, .*not finite in `y`"):
        training.fit(model, x, y, batch_size=4, verbose=0, shuffle=False)


def test_a_weight_that_is_not_finite_is_not_written(tmp_path):
    """The loss of the only step was finite, its update was not."""
    x = np.ones((1, 1), "float32")
    with pytest.raises(FloatingPointError, match=r"dense.*/kernel is not finite befo"):
        training.fit(line(2e38), x, x * 0, verbose=0, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
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
