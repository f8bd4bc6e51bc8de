"""What a training prints while it runs, by a clock that the tests set."""

import io
import types

import keras
import numpy as np
import pytest

from keras_en import training
from keras_en.training import callbacks as callbacks_of_fit
from keras_en.training import progress
from keras_en.training.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=100.0)
    clock = types.SimpleNamespace(perf_counter=lambda: now.seconds)
    monkeypatch.setattr(progress, "time", clock)
    return now


def line():
    """`y = w x`."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def shown(clock, epochs, stream, seconds, images=10, first=0):
    """Runs a callback by hand, batches of 4: each step, and what is behind the steps of
    an epoch, lasts as `seconds` of the two has it."""
    steps = -(-images // 4)
    callback = Progress(images, 4, stream)
    callback.set_model(line())
    callback.set_params({"epochs": epochs, "steps": None, "verbose": 0})
    callback.on_train_begin()
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        for batch in range(first if epoch == 0 else 0, steps):
            callback.on_train_batch_begin(batch)
            clock.seconds += seconds(epoch, batch)
            callback.on_train_batch_end(batch, {"loss": 0.5})
        clock.seconds += seconds(epoch, None)
        callback.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.00025})
    callback.on_train_end()
    return stream.getvalue()


def test_by_hand(clock):
    """Steps of 4, 4 and 2 images. In the first epoch the first and the last step are
    compiled, 9 seconds each; the rest are 2 a second. Validation lasts 3 seconds."""

    def seconds(epoch, batch):
        if batch is None:
            return 3
        return 9 if epoch == 0 and batch in (0, 2) else (2, 2, 1)[batch]

    # Behind an epoch, the next ones: 10 images, 5 seconds, and 3 of validation, each.
    assert shown(clock, 3, io.StringIO(), seconds).splitlines() == [
        "Epoch 1/3 - compiling the first step",
        "Epoch 1/3 - loss: 0.5000 - val_loss: 2.50e-04 - 2 images/s - 16 s left",
        "Epoch 2/3 - loss: 0.5000 - val_loss: 2.50e-04 - 2 images/s - 8 s left",
        "Epoch 3/3 - loss: 0.5000 - val_loss: 2.50e-04 - 2 images/s",
    ]


def test_a_single_step_has_no_speed(clock):
    text = shown(clock, 2, io.StringIO(), lambda epoch, batch: 9, images=4)
    assert text.splitlines()[1] == "Epoch 1/2 - loss: 0.5000 - val_loss: 2.50e-04"


def test_a_resumed_epoch(clock):
    """Begun at its second step of 5: 12 images in 3 steps behind the first of them."""

    def seconds(epoch, batch):
        return {1: 50, None: 0}.get(batch, 2)

    text = shown(clock, 1, io.StringIO(), seconds, images=20, first=1)
    assert text.splitlines()[-1].endswith(" - 2 images/s")


def test_the_line_of_a_terminal_is_replaced(clock):
    text = shown(clock, 1, Terminal(), lambda epoch, batch: 1)
    first, *others = text.split("\r\x1b[K")
    assert first == "Epoch 1/1 - compiling the first step"
    assert others == [
        "Epoch 1/1 - 40% - loss: 0.5000",
        "Epoch 1/1 - 80% - loss: 0.5000 - 4 images/s - 0 s left",
        "Epoch 1/1 - 100% - loss: 0.5000 - 4 images/s",
        "Epoch 1/1 - loss: 0.5000 - val_loss: 2.50e-04 - 4 images/s\n",
    ]


def test_the_live_line_ends_with_the_training(clock):
    stream = Terminal()
    callback = Progress(4, 4, stream)
    callback.set_model(line())
    callback.set_params({"epochs": 1})
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(0)
    callback.close()
    callback.close()
    assert stream.getvalue() == "Epoch 1/1 - compiling the first step\n"


def test_in_model_fit():
    stream, x = io.StringIO(), np.zeros((10, 1), "float32")
    callback = Progress(10, 4, stream)
    line().fit(x, x, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    lines = stream.getvalue().splitlines()
    assert [text.split(" - ")[0] for text in lines] == ["Epoch 1/2"] * 2 + ["Epoch 2/2"]
    assert all("images/s" in text for text in lines[1:])


@pytest.mark.tensorflow
def test_in_our_fit(capsys):
    """In the place of Keras's bar; the line of a resumed run is there."""
    stream, x = io.StringIO(), np.zeros((10, 1), "float32")
    options = {"batch_size": 4, "epochs": 2, "callbacks": [Progress(10, 4, stream)]}
    training.fit(line(), x, x, validation_data=(x, x), **options)
    assert capsys.readouterr().out == ""
    lines = stream.getvalue().splitlines()
    assert [text.split(" - ")[0] for text in lines] == ["Epoch 1/2"] * 2 + ["Epoch 2/2"]
    assert all("val_loss: " in text and "images/s" in text for text in lines[1:])


@pytest.mark.tensorflow
def test_only_the_chief_prints(monkeypatch, clock):
    monkeypatch.setattr(progress, "is_chief", lambda strategy: False)
    assert shown(clock, 1, Terminal(), lambda epoch, batch: 1) == ""
    assert callbacks_of_fit.Progress is Progress


@pytest.mark.parametrize("arguments", [(0, 4), (10, 0), (10, 1.5)])
def test_arguments(arguments):
    with pytest.raises((ValueError, TypeError), match="must be an integer of at least"):
        Progress(*arguments)


def test_durations():
    assert [duration(s) for s in (0.2, 59.4, 59.6, 3599.9)] == [
        *("0 s", "59 s", "1:00", "1:00:00"),
    ]
