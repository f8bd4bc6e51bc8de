"""Pixels as a model takes them: served images equal what its training saw."""

import io
import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import ExemplarNormalization, export
from keras_en.export import facts, serving
from keras_en.export.pixels import GREY, resolved
from tests.backends import numpy

SHAPE = (8, 8, 3)


def functional(first):
    x = keras.Input(SHAPE)
    return keras.Model(x, layers.Conv2D(2, 3)(first(x)))


def nested(first):
    return keras.Sequential([keras.Input(SHAPE), functional(first)])


class Own(layers.Layer):
    def __init__(self):
        super().__init__()
        self.scale = layers.Rescaling(1 / 255)

    def call(self, x):
        return self.scale(x)


class Stem(layers.Layer):
    """What it does to pixels is hidden behind weights."""

    def __init__(self, scale=1 / 255):
        super().__init__()
        self.scale, self.convolution = layers.Rescaling(scale), layers.Conv2D(2, 1)

    def build(self, shape):
        self.convolution.build(shape)

    def call(self, x):
        return self.convolution(self.scale(x))


class Part(keras.Model):
    """One without a graph."""

    def __init__(self):
        super().__init__()
        self.stem = Stem()

    def call(self, x):
        return self.stem(x)


def split(x):
    return keras.ops.concatenate(keras.ops.split(x, 3, -1)[::-1], -1)


LARGER = layers.Rescaling(255.0)
LARGE = {
    "rescaling": layers.Rescaling(1 / 255),
    "offset": layers.Rescaling(1 / 127.5, offset=-1),
    "normalization": layers.Normalization(mean=[123, 116, 103], variance=[3e3] * 3),
    "division": lambda x: x / 255.0,
    "subtraction": lambda x: x - 127.5,
    "flipped": lambda x: layers.Rescaling(1 / 255)(layers.RandomFlip()(x)),
    "second": lambda x: keras.Sequential([layers.Rescaling(1 / 255)])(x),
    "added": lambda x: x + (-127.5),
    "a tensor": lambda x: x / keras.ops.convert_to_tensor(255.0),
    "of an application": keras.applications.vgg16.preprocess_input,
    "a function": layers.Lambda(lambda x: x / 255.0),
    "a layer of its own": lambda x: Own()(x),
    "a pipeline": layers.Pipeline([layers.RandomFlip(), layers.Rescaling(1 / 255)]),
    "brighter": lambda x: layers.RandomBrightness(0.1, value_range=(0, 255))(x),
    "pooled": lambda x: layers.Rescaling(1 / 255)(layers.AveragePooling2D(2)(x)),
    "split": lambda x: layers.Rescaling(1 / 255)(split(x)),
    "a stem": lambda x: Stem()(x),
    "a model of its own": lambda x: Part()(x),
    "logarithms": lambda x: layers.Rescaling(1 / 5.55)(keras.ops.log1p(x)),
    "roots": lambda x: keras.ops.sqrt(x) / 16,
    "doubled": lambda x: 2.0 * x / 255.0 - 1.0,
    "above a threshold": lambda x: keras.ops.where(x > 9.0, x, 0.0),
    "integers": lambda x: keras.ops.cast(x, "uint8") / 255,
    "turned": lambda x: layers.Rescaling(1 / 255)(keras.ops.flip(x[..., ::-1], 1)),
}
SMALL = {
    "nothing": lambda x: layers.Conv2D(2, 1)(x),
    "-1 to 1": layers.Rescaling(2.0, offset=-1),
    "normalization": layers.Normalization(mean=[0.5, 0.4, 0.4], variance=[0.06] * 3),
    "later": lambda x: layers.Rescaling(1 / 255)(layers.Conv2D(2, 1)(x)),
    "a small residual": lambda x: Stem(0.1)(x),
    "clipped": lambda x: keras.ops.clip(x, 0, 1),
    "squashed": layers.Activation("sigmoid"),
    "brighter": lambda x: layers.RandomBrightness(0.1, value_range=(0, 1))(x),
    "beside": lambda x: layers.Concatenate()([x, layers.Conv2D(2, 1)(x)]) / 255.0,
    "logarithms": lambda x: keras.ops.log(x + 1e-7),
    "waves": lambda x: keras.ops.sin(2 * np.pi * x),
    "centred": lambda x: x - keras.ops.mean(x, (1, 2), keepdims=True),
    "made large": lambda x: layers.Rescaling(1 / 255)(LARGER(x)),
    "brighter when made large": lambda x: layers.RandomBrightness(0.1)(LARGER(x)),
    "normalized when made large": lambda x: layers.Normalization(
        mean=[123, 116, 103], variance=[3e3] * 3
    )(LARGER(x)),
    "a stem when made large": lambda x: Stem()(LARGER(x)),
    "a loss": lambda x: layers.ActivityRegularization(0.1)(x),
}


@pytest.mark.parametrize("make", [functional, nested])
def test_read_from_the_model(make):
    for name, first in LARGE.items():
        assert resolved("auto", make(first)) == "0-255", name
    for name, first in SMALL.items():
        assert resolved("auto", make(first)) == "0-1", name
    assert resolved("0-1", make(LARGE["rescaling"])) == "0-1"
    shared = layers.RandomFlip()
    flipped = [layers.Resizing(*SHAPE[:2]), shared, shared, layers.Rescaling(1 / 255)]
    assert resolved("auto", make(keras.Sequential(flipped))) == "0-255"
    inputs = keras.Input((None, None, 3))
    cropped = layers.Rescaling(1 / 255)(layers.Cropping2D(4)(inputs))
    assert resolved("auto", keras.Model(inputs, cropped)) == "0-255"
    model = make(SMALL["a loss"])
    assert resolved("auto", model) == "0-1" and not model.losses


def test_unknown():
    with pytest.raises(
        ValueError, match="`pixels` must be one of.*Received: pixels='x"
    ):
        resolved("x", functional(SMALL["nothing"]))


@pytest.mark.parametrize("norm", [layers.BatchNormalization, ExemplarNormalization])
def test_read_from_moving_statistics(norm):
    layer = norm()
    model = functional(layer)
    assert resolved("auto", model) == "0-1"
    layer.moving_mean.assign([0.5] * 3)
    layer.moving_variance.assign([0.06] * 3)
    assert resolved("auto", model) == "0-1"
    layer.moving_mean.assign([120.0] * 3)
    layer.moving_variance.assign([3e3] * 3)
    assert resolved("auto", model) == "0-255"


@pytest.mark.tensorflow
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_grey_network_sees_colours_as_predict_does(mode):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG")
    decode = serving.decoded(keras.KerasTensor((None, 8, 8, 1)), 0.0, 1.0, "0-255")
    colours = np.asarray(Image.open(file).convert("RGB"))
    expected = np.rint(colours @ GREY)[None, ..., None]
    np.testing.assert_array_equal(numpy(decode([file.getvalue()])), expected)


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_is_answered_as_the_model_does(tmp_path, kind):
    import tensorflow as tf
    from PIL import Image

    keras.utils.set_random_seed(0)
    first = [keras.Input(SHAPE), layers.Rescaling(1 / 255), layers.Conv2D(4, 3)]
    last = [layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    model = keras.Sequential([*first, ExemplarNormalization(), *last])
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    pixels = np.asarray(Image.open(file))
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    assert export.inspect(path).record["options"]["pixels"] == "0-255"
    served = tf.saved_model.load(str(path))
    data = tf.constant([file.getvalue()])
    outputs = served.signatures["serving_bytes"](image_bytes=data)["outputs"]
    expected = numpy(model(pixels[None].astype("float32")))
    np.testing.assert_allclose(outputs.numpy(), expected, atol=1e-4)


def relabelled(path, **changes):
    """The artefact with another record."""
    file = path / facts.FILE
    record = json.loads(file.read_text())
    options = {**record["options"], **changes.pop("options", {})}
    file.write_text(json.dumps({**record, "options": options, **changes}))


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_gate_does_not_trust_the_record(tmp_path):
    first = [keras.Input(SHAPE), layers.Rescaling(1 / 255), layers.Conv2D(4, 3)]
    model = keras.Sequential(
        [*first, ExemplarNormalization(), layers.GlobalAveragePooling2D()]
    )

    def outcome(path):
        checks = export.verify(model, path, batches=[2]).checks
        (check,) = [c for c in checks if c.name == "serving_bytes"]
        return check.status, check.detail

    def exported(pixels):
        return export.export_saved_model(
            model, tmp_path, pixels=pixels, warmup_requests=False
        )

    assert outcome(exported("auto"))[0] == "passed"
    chosen = exported("0-1")
    assert outcome(chosen)[0] == "passed"
    # As an export whose reading of the model was wrong would have said.
    relabelled(chosen, pixels_from="auto")
    status, text = outcome(chosen)
    assert status == "FAILED" and "pixels as 0-1, and the model as 0-255" in text
