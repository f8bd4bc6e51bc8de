"""A small network with everything that a training run has to keep."""

import keras
import numpy as np

from keras_en import ExemplarNormalization
from keras_en.models import norms
from tests.backends import numpy

SHAPE = (6, 6, 3)


def network(optimizer=None, dropout=0.0, jit_compile=False, dtype=None, **kwargs):
    keras.utils.set_random_seed(0)
    regularizer = keras.regularizers.L2(1e-2)
    layers = [
        keras.Input(SHAPE),
        keras.layers.Conv2D(8, 3, kernel_regularizer=regularizer, dtype=dtype),
        ExemplarNormalization(**{"synchronized": True, **kwargs}, dtype=dtype),
        keras.layers.ReLU(dtype=dtype),
        keras.layers.Dropout(dropout, seed=1, dtype=dtype),
        keras.layers.Flatten(dtype=dtype),
        keras.layers.Dense(3, dtype=dtype),
    ]
    model = keras.Sequential(layers)
    crossentropy = keras.metrics.SparseCategoricalCrossentropy
    model.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        weighted_metrics=[crossentropy(from_logits=True, name="weighted")],
        jit_compile=jit_compile,
    )
    return model


def convolutional(norm, classes=10):
    """Two normalizations, the second of what the first has made of a batch."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, use_bias=False),
            norms.normalization(norm, 8, name="first"),
            keras.layers.ReLU(),
            keras.layers.Conv2D(16, 3, strides=2, use_bias=False),
            norms.normalization(norm, 16, name="second"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def one_and_many(strategy, make):
    """The same model on one device and on the replicas of a strategy."""
    one = make()
    with strategy.scope():
        return one, make()


def state(model):
    """The values of its variables and of its optimizer's."""
    values = {f"{i} {v.name}": numpy(v.value) for i, v in enumerate(model.variables)}
    # Its names hold those of layers, which Keras numbers.
    slots = {str(i): numpy(v.value) for i, v in enumerate(model.optimizer.variables)}
    return {**values, **slots}


def assert_close(one, other, tolerance):
    """Of dictionaries of arrays, relative to the largest number of each array."""
    assert one.keys() == other.keys() != set()
    for name, value in one.items():
        scale = max(1, np.abs(value).max())
        assert np.abs(value - other[name]).max() <= tolerance * scale, name


def assert_equal(one, other, tolerance):
    """Of two models and their optimizers."""
    assert_close(state(one), state(other), tolerance)


def assert_histories(ours, theirs, **tolerance):
    """Of dictionaries of metrics."""
    assert ours.keys() == theirs.keys() != set()
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, err_msg=name, **tolerance)


class Stop(keras.callbacks.Callback):
    """As Ctrl-C after a number of steps."""

    def __init__(self, step):
        super().__init__()
        self.remaining = step

    def on_train_batch_end(self, batch, logs=None):
        self.remaining -= 1
        if self.remaining == 0:
            raise KeyboardInterrupt
