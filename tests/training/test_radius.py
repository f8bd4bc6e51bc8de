"""The radius that rises with the steps of a training."""

import keras
import numpy as np
import pytest

from keras_en import SparseSwitchableNormalization
from keras_en.ops import ratios
from keras_en.training import RadiusSchedule
from tests.backends import images, numpy
from tests.training.networks import convolutional


def test_three_steps_by_hand():
    """With three normalizers the radius rises from 0 to `sqrt(2 / 3)`."""
    model = keras.Sequential([keras.Input((2, 2, 1)), SparseSwitchableNormalization()])
    model.compile("sgd", "mse")
    x = np.zeros((3, 2, 2, 1))
    seen = Radii()
    callbacks = [RadiusSchedule(3), seen]
    model.fit(x, x, batch_size=1, callbacks=callbacks, verbose=0)
    np.testing.assert_allclose(seen.radii, [0, 0.408248, 0.816497], rtol=1e-5)


def test_the_authors_code_has_the_progress_itself_for_a_radius():
    """`i / (steps - 1)`, but no more than `sqrt(2 / 3)`, 0.8165."""
    model = keras.Sequential([keras.Input((2, 2, 1)), SparseSwitchableNormalization()])
    model.compile("sgd", "mse")
    x = np.zeros((6, 2, 2, 1))
    seen = Radii()
    callbacks = [RadiusSchedule(6, end=(2 / 3) ** 0.5), seen]
    model.fit(x, x, batch_size=1, callbacks=callbacks, verbose=0)
    expected = [0, 0.2, 0.4, 0.6, 0.8, 0.816497]
    np.testing.assert_allclose(seen.radii, expected, rtol=1e-5)


class Radii(keras.callbacks.Callback):
    """Notes the radius of every step."""

    def __init__(self):
        super().__init__()
        self.radii = []

    def on_train_batch_end(self, batch, logs=None):
        (radius,) = set(radii(self.model).values())
        self.radii.append(radius)


def radii(model):
    return {
        layer.name: float(numpy(layer.radius))
        for layer in model.layers
        if hasattr(layer, "radius")
    }


def test_ratios_end_in_a_choice(rng):
    model = convolutional("ssn")
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    x, y = images(rng, (24, 8, 8, 3)), rng.integers(0, 10, 24)
    seen = Radii()
    callbacks = [RadiusSchedule(6), seen]
    model.fit(x, y, batch_size=8, epochs=2, callbacks=callbacks, verbose=0)
    shares = np.array(seen.radii) / ratios.circumradius(3)
    np.testing.assert_allclose(shares, [0, 0.2, 0.4, 0.6, 0.8, 1], rtol=1e-5)
    for layer in model.layers:
        if hasattr(layer, "radius"):
            for values in layer.ratios().values():
                np.testing.assert_allclose(np.sort(numpy(values)), [0, 0, 1], atol=1e-3)


CHUNKS = [1, 2] if keras.backend.backend() != "torch" else [1]


@pytest.mark.parametrize("chunk", CHUNKS, ids="steps_per_execution-{}".format)
def test_a_training_that_goes_on_and_frozen_layers(rng, chunk):
    """No other callback looks at the model."""
    model = convolutional("ssn")
    model.get_layer("first").trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=chunk)
    x, y = images(rng, (16, 8, 8, 3)), rng.integers(0, 10, 16)
    for _ in range(2):
        schedule = RadiusSchedule(11)
        model.fit(x, y, batch_size=4, callbacks=[schedule], verbose=0)
    radius_of = radii(model)
    assert radius_of.pop("first") == 0
    last = {1: 0.7, 2: 0.6}[chunk]  # of steps 0 to 7, the last that began a call
    shares = [radius / ratios.circumradius(3) for radius in radius_of.values()]
    assert all(share == pytest.approx(last) for share in shares)


def test_wrong_arguments(rng):
    with pytest.raises(ValueError, match="`steps` must be an integer of at least 2"):
        RadiusSchedule(1)
    for end in (0, 1.5):
        with pytest.raises(ValueError, match=r"`end` must be in \(0, 1\]"):
            RadiusSchedule(10, end=end)
    model = convolutional("sn")
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = images(rng, (2, 8, 8, 3)), np.zeros(2)
    with pytest.raises(ValueError, match="SparseSwitchableNormalization, for Radius"):
        model.fit(x, y, callbacks=[RadiusSchedule(10)], verbose=0)
