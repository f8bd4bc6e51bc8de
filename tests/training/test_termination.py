"""SIGTERM in the middle of a step, in this process."""

import os
import signal

import keras
import numpy as np
import pytest

from keras_en import training
from keras_en.training.termination import put_off

pytestmark = pytest.mark.tensorflow


class Ended(Exception):
    pass


@pytest.fixture
def handler():
    """A handler that ends the process by an exception, as that of `keras-en` does."""

    def end(*_):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    yield end
    signal.signal(signal.SIGTERM, before)


class Terminate(keras.callbacks.Callback):
    """Sends the signal at a step, or when an epoch is evaluated."""

    def __init__(self, step):
        super().__init__()
        self.step, self.steps = step, []

    def send(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_begin(self, batch, logs=None):
        self.steps.append(batch)
        if batch == self.step:
            self.send()

    def on_test_begin(self, logs=None):
        if self.step == "test":
            self.send()


def dense():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    return model


def fit(model, folder, callbacks=(), resume=False):
    x = np.random.default_rng(0).normal(size=(10, 2)).astype("float32")
    options = {"verbose": 0, "checkpoint": folder, "resume": resume}
    data = {"validation_data": (x, x[:, :1]), "batch_size": 2, "epochs": 2}
    training.fit(model, x, x[:, :1], callbacks=list(callbacks), **data, **options)
    return [keras.ops.convert_to_numpy(w) for w in model.weights]


@pytest.mark.parametrize("step", [3, "test"])
def test_a_checkpoint_first(tmp_path, handler, step):
    """Resumed, the run ends with the weights of one that was left alone."""
    whole = fit(dense(), tmp_path / "whole")
    terminate = Terminate(step)
    with pytest.raises(Ended):
        fit(dense(), tmp_path / "parts", [terminate])
    assert terminate.steps == [0, 1, 2, 3, 4][: 4 if step == 3 else 5]
    assert signal.getsignal(signal.SIGTERM) is handler
    rest = Terminate(None)
    resumed = fit(dense(), tmp_path / "parts", [rest], resume=True)
    assert rest.steps == ([4] if step == 3 else []) + [0, 1, 2, 3, 4]
    for here, there in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(here, there)


def test_before_the_first_step_it_comes_at_once(tmp_path, handler):
    with pytest.raises(Ended):
        fit(dense(), tmp_path / "run", [Terminate(0)])
    assert not (tmp_path / "run").exists()


def test_a_handler_that_goes_on(tmp_path):
    """The training goes on, too."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        terminate = Terminate(2)
        fit(dense(), tmp_path, [terminate])
        assert terminate.steps == [0, 1, 2, 3, 4] * 2 and len(came) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_inactive(handler):
    with put_off(False), pytest.raises(Ended):
        os.kill(os.getpid(), signal.SIGTERM)
