import keras
import numpy as np
import pytest

from keras_en import ratios
from keras_en.models import CifarResNet
from keras_en.training import RadiusSchedule
from tests.backends import images, numpy


class Radii(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        radii = [
            float(numpy(layer.radius))
            for layer in self.model.layers
            if hasattr(layer, "radius")
        ]
        assert len(set(radii)) == 1
        self.seen.append(radii[0])


def test_ratios_end_in_a_choice(rng):
    model = CifarResNet(8, input_shape=(8, 8, 3), norm="ssn")
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    x, y = images(rng, (24, 8, 8, 3)), rng.integers(0, 10, 24)
    radii = Radii()
    callbacks = [RadiusSchedule(4), radii]
    model.fit(x, y, batch_size=8, epochs=2, callbacks=callbacks, verbose=0)
    shares = np.array(radii.seen) / ratios.circumradius(3)
    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 0.75, 1, 1], rtol=1e-5)
    for layer in model.layers:
        if hasattr(layer, "radius"):
            for found in layer.ratios().values():
                np.testing.assert_allclose(np.sort(numpy(found)), [0, 0, 1], atol=1e-3)


def test_a_training_that_goes_on_and_frozen_layers(rng):
    model = CifarResNet(8, input_shape=(8, 8, 3), norm="ssn")
    model.get_layer("stem_norm").trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = images(rng, (8, 8, 8, 3)), rng.integers(0, 10, 8)
    model.fit(x, y, callbacks=[RadiusSchedule(10, initial_step=5)], verbose=0)
    found = {
        layer.name: float(numpy(layer.radius)) / ratios.circumradius(3)
        for layer in model.layers
        if hasattr(layer, "radius")
    }
    assert found.pop("stem_norm") == 0
    assert all(share == pytest.approx(0.5) for share in found.values())


def test_wrong_arguments(rng):
    with pytest.raises(ValueError, match="`steps` must be an integer of at least 1"):
        RadiusSchedule(0)
    with pytest.raises(TypeError, match="`initial_step` must be an integer"):
        RadiusSchedule(1, 0.5)
    model = CifarResNet(8, input_shape=(8, 8, 3), norm="sn")
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = images(rng, (2, 8, 8, 3)), np.zeros(2)
    with pytest.raises(ValueError, match="SparseSwitchableNormalization, for Radius"):
        model.fit(x, y, callbacks=[RadiusSchedule(10)], verbose=0)
