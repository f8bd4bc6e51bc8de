"""Runs that were interrupted and resumed against runs that were not."""

import contextlib

import keras
import numpy as np
import pytest

from keras_en import training
from tests.training.networks import (
    Stop,
    assert_equal,
    assert_histories,
    network,
    state,
)

pytestmark = pytest.mark.tensorflow


def dense():
    """`y = w x + b` with `w = 1` and `b = 0`."""
    layer = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    return model


def test_a_checkpoint_by_hand(tmp_path):
    """`x = 1`, `y = 0`: the loss is 1, the gradients are 2 and 2, and the weights,
    less a quarter of them, 0.5 and -0.5; then the loss is 0."""
    x, y = np.ones((1, 1)), np.zeros((1, 1))
    training.fit(dense(), x, y, verbose=0, checkpoint=tmp_path)
    resumed = dense()
    options = {"verbose": 0, "checkpoint": tmp_path, "resume": True}
    history = training.fit(resumed, x, y, epochs=2, **options)
    assert history.history == {"loss": [1.0, 0.0]} and history.epoch == [0, 1]
    assert [v.numpy().item() for v in resumed.trainable_variables] == [0.5, -0.5]


@pytest.mark.parametrize(
    "replicas, stop, optimizer",
    [(1, 2, "Adam"), (1, 3, "Nadam"), (2, 3, "Nadam"), (2, 5, "Adam")],
)
def test_a_run_resumed_is_one_never_interrupted(
    data, strategy, tmp_path, replicas, stop, optimizer
):
    """Dropout, a schedule, momentum and accumulated gradients have states."""
    x, y = data

    def make():
        schedule = keras.optimizers.schedules.CosineDecay(0.1, 9)
        kind = getattr(keras.optimizers, optimizer)
        with contextlib.nullcontext() if replicas == 1 else strategy.scope():
            return network(kind(schedule, gradient_accumulation_steps=2), dropout=0.3)

    whole, interrupted, resumed = make(), make(), make()
    options = {"batch_size": 8, "epochs": 3, "verbose": 0, "validation_data": data}
    expected = training.fit(whole, x, y, **options)
    options["checkpoint"], options["checkpoint_every"] = tmp_path / "run", 1
    with pytest.raises(KeyboardInterrupt):
        training.fit(interrupted, x, y, callbacks=[Stop(stop)], **options)
    history = training.fit(resumed, x, y, resume=True, **options)
    assert_equal(whole, resumed, 0)
    assert history.epoch == expected.epoch
    # What replicas had counted is restored in equal parts, which rounds otherwise.
    tolerance = 0 if replicas == 1 else 1e-6
    assert_histories(history.history, expected.history, rtol=tolerance)


def test_a_finished_run_resumed_does_nothing(data, tmp_path):
    model = network()
    options = {"batch_size": 8, "epochs": 2, "verbose": 0, "checkpoint": tmp_path}
    training.fit(model, *data, **options)
    again = network()
    history = training.fit(again, *data, resume=True, **options)
    assert history.epoch == [0, 1]
    assert_equal(again, model, 0)


def test_a_run_that_a_callback_stopped_has_ended(data, tmp_path):
    stop = keras.callbacks.EarlyStopping("loss", min_delta=100.0, patience=1)
    options = {"batch_size": 8, "epochs": 9, "verbose": 0, "checkpoint": tmp_path}
    model, again = network(), network()
    training.fit(model, *data, callbacks=[stop], **options)
    history = training.fit(again, *data, resume=True, **options)
    assert history.epoch == [0, 1]
    assert_equal(model, again, 0)


def test_a_schedule_by_callback_resumed_in_mid_epoch(data, tmp_path):
    """It has acted on the learning rate that the checkpoint holds."""

    def decay():
        return keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5)

    whole, interrupted, resumed = network(), network(), network()
    options = {"batch_size": 8, "epochs": 2, "verbose": 0}
    training.fit(whole, *data, callbacks=[decay()], **options)
    options.update(checkpoint=tmp_path, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        training.fit(interrupted, *data, callbacks=[decay(), Stop(5)], **options)
    training.fit(resumed, *data, callbacks=[decay()], resume=True, **options)
    assert_equal(whole, resumed, 0)


def test_a_checkpoint_of_another_model(data, tmp_path):
    x, y = data
    options = {"batch_size": 8, "verbose": 0, "checkpoint": tmp_path}
    training.fit(network(), x, y, **options)
    other = network(normalizers=["layer", "batch"])
    before = state(other)
    with pytest.raises(ValueError, match=r"first difference is model/\d+/gamma: \(2"):
        training.fit(other, x, y, resume=True, **options)
    for name, value in before.items():
        np.testing.assert_array_equal(value, state(other)[name])
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(ValueError, match="cannot be read"):
        training.fit(network(), x, y, resume=True, **options)


def test_metrics_that_are_vectors(data, tmp_path):
    x, y = data
    labels = np.eye(3, dtype="float32")[y]
    model = network()
    model.compile(
        "sgd",
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.F1Score()],
    )
    options = {"batch_size": 8, "verbose": 0, "checkpoint": tmp_path}
    (scores,) = training.fit(model, x, labels, **options).history["f1_score"]
    assert len(scores) == 3 and all(isinstance(v, float) for v in scores)
