"""`model.fit` with checkpoints; on JAX and torch."""

import itertools

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from keras_en.training import keras_loop
from keras_en.training.data import ArraySplit, Transform
from tests.backends import numpy

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="training.fit is TensorFlow's"
)


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends the training when an epoch begins."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 6, 6, 3), dtype="uint8")
    return ArraySplit(images, rng.integers(0, 3, 10).astype("int32"))


def network(**options):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(4, 3),
        ExemplarNormalization(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.0),
        keras.layers.Dense(3, "softmax"),
    ]
    model = keras.Sequential([keras.Input((6, 6, 3)), *layers])
    rate = keras.optimizers.schedules.CosineDecay(0.1, 9)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, **options)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model, folder, callbacks=(), **options):
    split = data()
    transform = Transform.of([{"shift": 1}, "flip"])
    arguments = dict(batch_size=4, seed=0, epochs=3, verbose=0, checkpoint=folder)
    arguments |= dict(checkpoint_every=None, resume=False, callbacks=list(callbacks))
    history = keras_loop.fit(
        model,
        lambda epoch: split.batches(4, transform, 0, epoch),
        validation_data=split.batches(5),
        **{**arguments, **options},
    )
    return history, [numpy(variable) for variable in model.weights]


def test_batches_come_in_their_order(tmp_path, monkeypatch):
    """Keras shuffles those of a `PyDataset` otherwise."""
    numbers = []
    original = keras_loop.Batches.__getitem__

    def noting(self, number):
        numbers.append((self.epoch, number))
        return original(self, number)

    monkeypatch.setattr(keras_loop.Batches, "__getitem__", noting)
    held_out = [(0, i) for i in range(2)]
    split = ArraySplit(np.zeros((24, 6, 6, 3), "uint8"), np.zeros(24, "int32"))
    keras_loop.fit(
        network(),
        lambda epoch: split.batches(2, None, 0, epoch),
        validation_data=data().batches(5),
        **dict(batch_size=2, seed=0, epochs=3, verbose=0, checkpoint=tmp_path),
        **dict(checkpoint_every=None, resume=False, callbacks=[]),
    )
    # The first one is asked for again by what is built of it.
    once = [b for a, b in itertools.pairwise([None, *numbers]) if a != b]
    expected = []
    for epoch in range(3):
        expected += [(epoch, i) for i in range(12)] + held_out
    assert once == expected


def test_batches_out_of_order_are_refused():
    split = data()
    batches = keras_loop.Batches(lambda epoch: split.batches(4))
    batches[0]
    with pytest.raises(ValueError, match="in their order.*Received: batch 2"):
        batches[2]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_resumed_is_one_never_interrupted(tmp_path, epoch):
    whole, weights = fit(network(), tmp_path / "whole")
    with pytest.raises(Killed):
        fit(network(), tmp_path / "parts", [Kill(epoch)])
    history, resumed = fit(network(), tmp_path / "parts", resume=True)
    assert history.epoch == whole.epoch == [0, 1, 2]
    assert history.history == whole.history and len(whole.history["val_loss"]) == 3
    for here, there in zip(resumed, weights, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("averaged", [False, True])
def test_a_run_that_has_ended(tmp_path, averaged):
    """With an optimizer that keeps averages its weights are those."""
    options = {"use_ema": averaged, "ema_momentum": 0.9}
    first, weights = fit(network(**options), tmp_path)
    again, same = fit(network(**options), tmp_path, resume=True)
    assert again.history == first.history
    for here, there in zip(same, weights, strict=True):
        np.testing.assert_array_equal(here, there)


def test_not_finite(tmp_path):
    """The checkpoint stays that of before."""
    model = network()

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                kernel = self.model.layers[0].kernel
                kernel.assign(np.full(kernel.shape, np.nan))

    with pytest.raises(FloatingPointError, match="loss"):
        fit(model, tmp_path, [Spoil()])
    with pytest.raises(Killed):
        fit(network(), tmp_path, [Kill(1)], resume=True)


def test_steps_have_no_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="--checkpoint-every needs the TensorFlow"):
        fit(network(), tmp_path / "run", checkpoint_every=2)
    assert not (tmp_path / "run").exists()
