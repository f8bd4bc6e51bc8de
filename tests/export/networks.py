"""Small networks whose exports are tested."""

import keras
import numpy as np

from keras_en import ExemplarNormalization, export
from keras_en.keras_private import layers_of
from keras_en.models import CifarResNet
from tests import backends


def randomized(model, seed=0):
    """`model` with random weights in its normalizations, so that nothing folds away."""
    rng = np.random.default_rng(seed)
    for layer in layers_of(model):
        if type(layer).__name__.endswith("Normalization"):
            backends.randomize(layer, rng)
    return model


def residual(norm="en", input_shape=(8, 8, 3), **kwargs):
    """A residual network of 8 layers that returns logits."""
    return randomized(
        CifarResNet(
            8, input_shape=input_shape, norm=norm, classifier_activation=None, **kwargs
        )
    )


def linear():
    """`y = 2 x + 3`, of one number."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[2.0]]), np.array([3.0])])
    return model


def small(input_shape=(8, 8, 3), norm=ExemplarNormalization):
    """One convolution, one normalization, one dense layer."""
    layers = keras.layers
    return randomized(
        keras.Sequential(
            [
                keras.Input(input_shape, name="pixels"),
                layers.Conv2D(8, 3, padding="same", name="conv"),
                norm(name="norm"),
                layers.ReLU(name="relu"),
                layers.GlobalAveragePooling2D(name="pool"),
                layers.Dense(10, name="dense"),
            ],
            name="small",
        )
    )


def two_sided():
    """A network with two inputs and two outputs."""
    images, numbers = keras.Input((8, 8, 3), name="images"), keras.Input((5,), name="n")
    x = keras.layers.Conv2D(4, 3, name="conv")(images)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    classes = keras.layers.Dense(3, name="classes")(x)
    both = keras.layers.Concatenate()([x, numbers])
    scores = keras.layers.Dense(2, name="scores")(both)
    return keras.Model({"images": images, "n": numbers}, [classes, scores])


def check_two_sided(path):
    """Exports `two_sided` to ONNX, and compares every output by its name."""
    model = two_sided()
    export.export_onnx(model, path)
    rng = np.random.default_rng(0)
    inputs = {
        "images": backends.images(rng, (3, 8, 8, 3)),
        "n": backends.images(rng, (3, 5)),
    }
    outputs, expected = export.run_onnx(path, inputs), model(inputs)
    for name, value in zip(("classes", "scores"), expected, strict=True):
        np.testing.assert_allclose(
            outputs[name], backends.numpy(value), atol=1e-5, rtol=1e-4
        )
