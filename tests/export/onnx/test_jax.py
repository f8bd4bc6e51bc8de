"""ONNX from the JAX backend."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, export
from tests.backends import BACKEND, images, numpy
from tests.export.networks import check_two_sided, linear, randomized, small

pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
pytestmark = pytest.mark.skipif(BACKEND != "jax", reason=f"needs JAX, not {BACKEND}")


def test_by_hand(tmp_path):
    """`2 x + 3`, for 1 and 5."""
    path = export.export_onnx(linear(), tmp_path / "m.onnx")
    outputs = export.run_onnx(path, np.array([[1.0], [5.0]], "float32"))
    np.testing.assert_array_equal(outputs, [[5.0], [13.0]])


def pooling():
    """Padding, max pooling, a residual sum."""
    layers = keras.layers
    x = keras.Input((16, 12, 3), name="x")
    y = layers.Conv2D(8, 3, strides=2, name="conv")(layers.ZeroPadding2D(1)(x))
    y = layers.MaxPooling2D(3, strides=2, padding="same")(y)
    y = layers.Add()([y, ExemplarNormalization(name="norm")(y)])
    y = layers.AveragePooling2D(2)(y)
    return randomized(keras.Model(x, layers.Dense(4)(layers.Flatten()(y))))


@pytest.mark.parametrize("opset", [13, 17, 23])
def test_every_gate(tmp_path, opset):
    model = small()
    path = export.export_onnx(model, tmp_path / "m.onnx", opset=opset)
    report = export.verify(model, path, batches=(1, 3))
    assert report.passed, report.failures
    assert export.inspect(path).signatures["serving_default"] == (
        {"inputs": ("float32", ["batch", 8, 8, 3])},
        {"outputs": ("float32", ["batch", 10])},
    )
    assert export.inspect(path).record["norm"] == {"ExemplarNormalization": 1}


def test_pooling(tmp_path):
    model = pooling()
    path = export.export_onnx(model, tmp_path / "m.onnx", simplify=False)
    x = images(np.random.default_rng(0), (3, 16, 12, 3))
    np.testing.assert_allclose(
        export.run_onnx(path, x), numpy(model(x)), atol=1e-5, rtol=1e-4
    )


def test_open_sizes(tmp_path):
    model = small((None, None, 3))
    sizes = ("batch", "height", "width")
    path = export.export_onnx(model, tmp_path / "m.onnx", dynamic=sizes)
    for shape in ((1, 5, 7, 3), (4, 8, 8, 3)):
        x = images(np.random.default_rng(0), shape)
        np.testing.assert_allclose(
            export.run_onnx(path, x), numpy(model(x)), atol=1e-5, rtol=1e-4
        )


def test_several_inputs_and_outputs(tmp_path):
    check_two_sided(tmp_path / "m.onnx")


def test_what_is_refused(tmp_path):
    for options, words in (
        ({"layout": "nchw"}, "`layout` must be 'nhwc' on the JAX backend"),
        ({"fp16": True}, "`fp16` must be False on the JAX backend"),
        ({"opset": 12}, "`opset` must be an integer from 13"),
    ):
        with pytest.raises(ValueError, match=words):
            export.export_onnx(small(), tmp_path / "m.onnx", **options)
    with pytest.raises(RuntimeError, match="SavedModel needs the TensorFlow backend"):
        export.export_saved_model(small(), tmp_path / "served")
    assert not any(tmp_path.iterdir())
