"""Networks with functions that XLA compiles, such as Keras's grouped convolutions."""

import operator

import keras
import numpy as np
import onnx
import pytest

from keras_en import ExemplarNormalization, export
from keras_en.export.keras_private import without_xla
from keras_en.export.saved_model import graph
from tests.backends import images, numpy
from tests.export.networks import randomized

pytestmark = pytest.mark.tensorflow

layers = keras.layers
SIZES = {1: (9,), 2: (8, 9), 3: (5, 6, 7)}


def grouped(rank=2, groups=2, **options):
    """EN between two convolutions, the second of which has groups."""
    conv = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[rank]
    network = [
        keras.Input((*SIZES[rank], 3)),
        conv(8, 3, padding="same", name="conv"),
        ExemplarNormalization(name="norm"),
        conv(12, 3, groups=groups, name="grouped", **options),
    ]
    return randomized(keras.Sequential(network, name="network"))


def compiled_parts(function):
    """What the graph gate says of the functions in a graph."""
    functions = operator.attrgetter("library.function")
    return graph.unservable((), functions(function.graph.as_graph_def()))


def test_by_hand():
    """Compiled outside, plain inside, and compiled again; `2 x` all along."""
    import tensorflow as tf

    double = tf.function(lambda x: 2 * x, jit_compile=True)
    spec = tf.TensorSpec((1,), tf.float32)

    def traced():
        function = tf.function(lambda x: double(double(x)), input_signature=[spec])
        return function.get_concrete_function()

    assert compiled_parts(traced())
    with without_xla() as compiled:
        inner = traced()
    assert compiled == ["<lambda>"] and not compiled_parts(inner)
    assert compiled_parts(traced())
    assert inner(tf.constant([3.0])).numpy() == [12.0]


def test_other_threads_and_what_is_run_stay_compiled():
    import threading

    import tensorflow as tf

    double = tf.function(lambda x: 2 * x, jit_compile=True)
    results = []

    def trace():
        function = tf.function(lambda x: double(x))
        results.append(compiled_parts(function.get_concrete_function(tf.ones(1))))

    with without_xla() as compiled:
        thread = threading.Thread(target=trace)
        thread.start()
        thread.join()
        double(tf.ones(1))
    assert results[0] and not compiled


def check(model, folder, atol=1e-5, **options):
    """Exports a model in both formats, runs and verifies them."""
    x = images(np.random.default_rng(0), (3, *model.input_shape[1:]))
    served = export.export_saved_model(model, folder / "served")
    file = export.export_onnx(model, folder / "m.onnx")
    for outputs in (export.run_saved_model(served, x), export.run_onnx(file, x)):
        np.testing.assert_allclose(outputs, numpy(model(x)), atol=atol, rtol=1e-4)
    for artefact in (served, file):
        report = export.verify(model, artefact, batches=(1, 3), **options)
        assert report.passed, report.failures
    return file


@pytest.mark.thorough
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"dilation_rate": 2}])
def test_grouped_convolutions(tmp_path, rank, options):
    file = check(grouped(rank, **options), tmp_path)
    convolutions = [n for n in onnx.load(str(file)).graph.node if n.op_type == "Conv"]
    groups = [a.i for n in convolutions for a in n.attribute if a.name == "group"]
    assert groups == [1, 2], "one operator, not a branch for each group"


def test_float16(tmp_path):
    model = grouped(groups=4, padding="same")
    x = images(np.random.default_rng(0), (3, *model.input_shape[1:]))
    path = export.export_onnx(model, tmp_path / "m.onnx", fp16=True)
    np.testing.assert_allclose(export.run_onnx(path, x), numpy(model(x)), atol=2e-2)
    assert export.verify(model, path, batches=(1, 3)).passed


def test_volumes_have_no_plain_kernel_but_an_onnx_form(tmp_path):
    model = grouped(3)
    words = r"without XLA .*Received: serving_default: \w+ "
    with pytest.raises(ValueError, match=words):
        export.export_saved_model(model, tmp_path / "served")
    assert not any(tmp_path.iterdir())
    x = images(np.random.default_rng(0), (2, *SIZES[3], 3))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(
        export.run_onnx(path, x), numpy(model(x)), atol=1e-5, rtol=1e-4
    )
    assert export.verify(model, path, batches=(1, 3)).passed


class Compiled(layers.Layer):
    """`x * factor + 2 factor`, in a function of the user's."""

    def __init__(self, nested=False, **kwargs):
        import tensorflow as tf

        super().__init__(**kwargs)
        # The outer one is not compiled, but holds the other when it is cached.
        self.compiled = tf.function(self.scaled, jit_compile=True)
        self.function = tf.function(self.outer) if nested else self.compiled

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")

    def scaled(self, x):
        import tensorflow as tf

        y = x * self.factor
        for _ in tf.range(2):  # A loop, which AutoGraph makes of it.
            y = y + self.factor
        return y

    def outer(self, x):
        return self.compiled(x)

    def call(self, x):
        return self.function(x)


@pytest.mark.thorough
@pytest.mark.parametrize("nested", [False, True])
def test_a_function_of_a_user(tmp_path, nested):
    network = [
        keras.Input((6, 6, 3)),
        layers.Conv2D(8, 3),
        ExemplarNormalization(name="norm"),
        Compiled(nested, name="compiled"),
        layers.GlobalAveragePooling2D(),
    ]
    model = randomized(keras.Sequential(network))
    model.predict(images(np.random.default_rng(0), (2, 6, 6, 3)), verbose=0)
    check(model, tmp_path)
