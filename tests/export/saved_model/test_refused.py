"""Models that no server can run, or that would be another function when served."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, export

pytestmark = pytest.mark.tensorflow


class Assigning(keras.layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


class Noisy(keras.layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


class InPython(keras.layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.ensure_shape(tf.numpy_function(np.copy, [x], tf.float32), x.shape)


class Compiled(keras.layers.Layer):
    """A tf.function itself would be traced anew, without XLA."""

    def call(self, x):
        import tensorflow as tf

        compiled = tf.function(tf.identity, jit_compile=True)
        return compiled.get_concrete_function(x)(x)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Assigning(name="wrong"), r"wrong.* assigns \(Assign"),
        (Noisy(name="wrong"), r"wrong.* is random \(.*Random"),
        (InPython(name="wrong"), r"wrong.* runs Python \(PyFunc"),
        (Compiled(name="wrong"), r"tf.function\(jit_compile.*by XLA \(_XlaMust"),
    ],
)
def test_models_that_do_more_than_compute_are_refused(tmp_path, layer, words):
    model = keras.Sequential([keras.Input((3,)), layer])
    with pytest.raises(ValueError, match=words):
        export.export_saved_model(model, tmp_path / "new")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("layer", [ExemplarNormalization, keras.layers.Dropout])
def test_training_baked_in_is_refused(tmp_path, layer, nested):
    x = keras.Input((4, 4, 3))
    layer = (
        layer(0.5, name="wrong")
        if layer is keras.layers.Dropout
        else layer(name="wrong")
    )
    model = keras.Model(x, layer(x, training=True), name="inner")
    if nested:
        model = keras.Model(x, model(x))
    for write, path in (
        (export.export_saved_model, tmp_path / "new"),
        (export.export_onnx, tmp_path / "new.onnx"),
    ):
        with pytest.raises(ValueError, match="training=True. Received: wrong in inner"):
            write(model, path)
    assert not any(tmp_path.iterdir())
