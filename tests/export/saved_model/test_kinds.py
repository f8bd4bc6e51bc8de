"""SavedModels of networks that are not made of convolutions: text, loops, odd names."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import ExemplarNormalization, export
from tests.backends import images, numpy
from tests.export.networks import randomized, small

pytestmark = pytest.mark.tensorflow
WORDS = ["good", "bad", "film"]
TEXTS = np.array([["good film"], ["bad bad thing"]], object)


class Table(layers.Layer):
    """A table of TensorFlow's own, in a list."""

    def __init__(self, **kwargs):
        import tensorflow as tf

        super().__init__(**kwargs)
        words = tf.lookup.KeyValueTensorInitializer(["good film"], [3])
        self.tables = [tf.lookup.StaticHashTable(words, 1)]

    def call(self, x):
        return self.tables[0].lookup(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, "int32")


def adapted():
    layer = layers.TextVectorization(output_sequence_length=4)
    layer.adapt(["good film", "bad film"])
    return layer


LOOKUPS = {
    "lookup": lambda: layers.StringLookup(vocabulary=["good film"]),
    "text": lambda: layers.TextVectorization(vocabulary=WORDS),
    "adapted": adapted,
    "table": Table,
}


def text_network(lookup, text):
    ids = layers.Embedding(8, 4)(lookup(text))
    x = layers.GlobalAveragePooling1D()(ExemplarNormalization()(ids))
    return randomized(keras.Model(text, layers.Dense(2)(x)))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", LOOKUPS)
def test_text(tmp_path, kind):
    """Tables are saved, wherever they are; warm-up requests have the right rank."""
    model = text_network(LOOKUPS[kind](), keras.Input((1,), dtype="string"))
    path = export.export_saved_model(model, tmp_path)
    expected = numpy(model(keras.ops.convert_to_tensor(TEXTS.tolist())))
    served = export.run_saved_model(path, TEXTS)
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-6)
    from keras_en.export.parity.warmup_requests import played

    assert played(export.inspect(path))


def test_text_in_a_nested_model(tmp_path):
    text = keras.Input((1,), dtype="string")
    inner = text_network(LOOKUPS["text"](), text)
    model = keras.Model(text, inner(text))
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    expected = numpy(model(keras.ops.convert_to_tensor(TEXTS.tolist())))
    served = export.run_saved_model(path, TEXTS)
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-6)


class Cell(layers.Layer):
    """A recurrent cell that normalizes."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = units
        self.dense = layers.Dense(units)
        self.norm = ExemplarNormalization(name="norm")

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((shape[0], self.state_size))

    def call(self, x, states, training=False):
        h = self.norm(self.dense(x) + states[0], training=training)
        return h, [h]


@pytest.mark.thorough
@pytest.mark.parametrize("unroll", [False, True])
def test_a_cell(tmp_path, capsys, unroll):
    x = images(np.random.default_rng(0), (3, 4, 5))
    inputs = keras.Input((4, 5))
    rnn = layers.RNN(Cell(2), unroll=unroll)
    model = randomized(keras.Model(inputs, rnn(inputs)))
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    signatures = export.inspect(path).signatures
    printed = capsys.readouterr().out
    if unroll:
        assert not printed
        assert len(signatures["ratios"][1]) == 1 + 4
    else:
        assert printed.count("\n") == 1 and 'without "ratios"' in printed
        assert list(signatures) == ["serving_default"]
        assert export.inspect(path).record["options"]["signatures"] == [*signatures]
        with pytest.raises(ValueError, match="unroll=True.*Received.*norm"):
            export.export_saved_model(model, tmp_path, signatures=["ratios"])
    np.testing.assert_allclose(export.run_saved_model(path, x), model(x), atol=1e-5)


NAMES = ["größe", "a b", "a\nb", "a:b", "a\\b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_scope_can_have(tmp_path, name):
    x = keras.Input((2,))
    inner = keras.Sequential([layers.Dense(1, name=name)])
    model = keras.Model(x, inner(x))
    for write in (export.export_saved_model, export.export_onnx):
        place = tmp_path / ("m.onnx" if write is export.export_onnx else "served")
        with pytest.raises(
            ValueError, match="Received: Dense .*another `name"
        ) as error:
            write(model, place)
        assert repr(name) in str(error.value) and "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


def test_names_of_models(tmp_path):
    for name in ("_x", "é"):
        model = keras.Sequential([keras.Input((2,)), layers.Dense(1)], name=name)
        with pytest.raises(ValueError, match=f"Received: Sequential '{name}'"):
            export.export_saved_model(model, tmp_path)


def lite(way, model, folder):
    """A LiteRT file, and how far its outputs, softmax of three classes, may be off."""
    import tensorflow as tf

    path = folder / "model.tflite"
    if way == "keras":
        model.export(path, format="litert", verbose=False)
        return path.read_bytes(), 1e-5
    saved = export.export_saved_model(model, folder, warmup_requests=False)
    assert "serving_bytes" in export.inspect(saved).signatures
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved), signature_keys=["serving_default"]
    )
    if way == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        samples = images(np.random.default_rng(0), (32, 8, 8, 3))
        converter.representative_dataset = lambda: ([x[None]] for x in samples)
    # Random weights make large activations, of which each may be off by 1/256.
    return converter.convert(), 0.1 if way == "int8" else 1e-5


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.filterwarnings("ignore:.*Statistics for quantized inputs:UserWarning")
@pytest.mark.parametrize("way", ["converter", "keras", "int8"])
def test_lite(tmp_path, way):
    """The ways that the README shows, at two batch sizes."""
    import tensorflow as tf

    model = small()
    content, tolerance = lite(way, model, tmp_path)
    interpreter = tf.lite.Interpreter(model_content=content)
    (place,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()
    for n in (1, 5):
        x = images(np.random.default_rng(n), (n, 8, 8, 3))
        interpreter.resize_tensor_input(place["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place["index"], x)
        interpreter.invoke()
        outputs = interpreter.get_tensor(result["index"])
        error = np.abs(outputs - numpy(model(x))).max()
        assert error < tolerance and (error > 1e-4) == (way == "int8")
