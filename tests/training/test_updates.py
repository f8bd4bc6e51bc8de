"""Optimizers of several parts, and averages of weights, on several replicas."""

import keras
import numpy as np
import pytest

from keras_en import training
from tests.backends import numpy
from tests.training.networks import SHAPE, assert_equal, network, one_and_many

pytestmark = pytest.mark.tensorflow
OPTIONS = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}


def parts(**options):
    """A rate for convolutions, another for the rest."""
    rates = {".*conv.*": keras.optimizers.SGD(0.01, **options)}
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1, **options), rates)
    )


@pytest.fixture
def data(rng):
    return rng.normal(size=(8, *SHAPE)).astype("float32"), rng.integers(0, 3, 8)


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 0.05}])
def test_parts_of_an_optimizer_step_as_on_one_device(data, strategy, options):
    one, many = one_and_many(strategy, lambda: network(parts(**options)))
    for model in (one, many):
        training.fit(model, *data, **OPTIONS)
    assert_equal(one, many, 1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: parts(gradient_accumulation_steps=2), "accumulate no gradients"),
        (
            lambda: keras.optimizers.SGD(use_ema=True, ema_overwrite_frequency=2),
            "without ema_overwrite_frequency",
        ),
    ],
    ids=["accumulation", "ema"],
)
def test_what_replicas_cannot_do_is_refused(data, strategy, make, message):
    with strategy.scope():
        model = network(make())
    with pytest.raises(ValueError, match=message):
        training.fit(model, *data, **OPTIONS)


def test_an_optimizer_of_equal_parts_resumes(data, tmp_path):
    """Neither the names of their optimizers count, nor their rates."""
    path = tmp_path / "checkpoint"
    options = {**OPTIONS, "checkpoint": path, "resume": True}
    first = training.fit(network(parts()), *data, **{**options, "epochs": 1})
    again = parts()
    again.optimizers[0].learning_rate = 0.05
    history = training.fit(network(again), *data, **options).history["loss"]
    assert len(history) == 2 and history[:1] == first.history["loss"]


def test_after_an_update_that_a_loss_scale_skipped(rng):
    """The next one has as many steps again, in another call too: `w - 0.1 g`, with the
    mean gradient `g` of two samples."""
    x = rng.normal(size=(4, 6)).astype("float32")
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1e38)
    dense = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), dense])
    model.compile(optimizer, "mse")
    (before,) = model.get_weights()
    options = {"batch_size": 1, "shuffle": False, "verbose": 0}
    training.fit(model, 100 * x[:2], np.zeros(2), **options)
    np.testing.assert_array_equal(numpy(dense.kernel), before, "skipped")
    optimizer.dynamic_scale.assign(1.0)
    training.fit(model, x[2:], np.zeros(2), **options)
    gradient = x[2:].T @ (x[2:] @ before)
    np.testing.assert_allclose(numpy(dense.kernel), before - 0.1 * gradient, rtol=1e-5)
