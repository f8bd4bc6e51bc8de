"""Surgery on networks that Keras can copy and save, and whose code is their own."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import ExemplarNormalization, replace_normalization
from keras_en.keras_private import layers_of
from tests.backends import images, numpy
from tests.networks import Parametric, difference, randomize

SAME = {"batch": 1.0}
SHAPE = (6, 6, 3)


def conv_norm_relu(x, filters, name):
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


@keras.saving.register_keras_serializable("tests.strangers")
class Backbone(keras.Model):
    """A functional model with a constructor of its own."""

    def __init__(self, filters, shape=SHAPE, **kwargs):
        inputs = keras.Input(shape)
        x = {"low": conv_norm_relu(inputs, filters, "low")}
        x["high"] = conv_norm_relu(x["low"], 2 * filters, "high")
        super().__init__(inputs=inputs, outputs=x, **kwargs)
        self.filters, self.shape_of_inputs = filters, shape

    def get_config(self):
        return {"filters": self.filters, "shape": self.shape_of_inputs}


@keras.saving.register_keras_serializable("tests.strangers")
class Task(keras.Model):
    """One that gets another."""

    def __init__(self, backbone, classes, **kwargs):
        inputs = backbone.input
        x = layers.GlobalAveragePooling2D()(backbone(inputs)["high"])
        super().__init__(inputs, layers.Dense(classes)(x), **kwargs)
        self.backbone, self.classes = backbone, classes


@keras.saving.register_keras_serializable("tests.strangers")
class Stem(keras.Sequential):
    """A `Sequential` with a constructor of its own, and a normalization or none."""

    def __init__(self, filters, norm=True, **kwargs):
        norms = [layers.BatchNormalization(name="bn")] * norm
        parts = [keras.Input(SHAPE), layers.Conv2D(filters, 3, name="conv"), *norms]
        super().__init__(parts, **kwargs)
        self.filters, self.norm = filters, norm

    def get_config(self):
        return {"filters": self.filters, "norm": self.norm, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("tests.strangers")
class OwnCall(Stem):
    def call(self, x, training=False):
        return super().call(x, training=training) * 2


@keras.saving.register_keras_serializable("tests.strangers")
class Residual(layers.Layer):
    """A normalization beside children that no configuration makes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bn = layers.BatchNormalization(name="bn")
        self.same = layers.Lambda(lambda x: 2 * x, name="same")
        self.gate = Gate(3.0, name="gate")
        self.body = [layers.Dense(3, name="dense")]
        self.late = keras.Sequential([layers.Dense(4), layers.Dense(3)], name="late")

    def build(self, shape):
        for layer in (self.bn, *self.body, self.gate, self.late):
            layer.build(shape)

    def call(self, x, training=False):
        y = self.body[0](self.bn(x, training=training)) + self.late(x)
        return self.gate(y) + self.same(x)


class Gate(layers.Layer):
    """Its configuration does not say its factor."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return x * self.scale * self.factor

    def get_config(self):
        return layers.Layer.get_config(self)


@keras.saving.register_keras_serializable("tests.strangers")
class Deep(layers.Layer):
    """Its code makes a `Sequential` that has a normalization."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        norms = [layers.Dense(3), layers.BatchNormalization(name="bn")]
        self.block = keras.Sequential(norms, name="block")

    def build(self, shape):
        self.block.build(shape)

    def call(self, x, training=False):
        return self.block(x, training=training)


def converted(model, x):
    new, report = replace_normalization(model, initial_ratios=SAME, return_report=True)
    old, now = (keras.tree.flatten(m(x, training=False)) for m in (model, new))
    for a, b in zip(old, now, strict=True):
        np.testing.assert_allclose(numpy(b), numpy(a), atol=1e-5)
    kinds = {type(layer) for layer in layers_of(new)}
    assert layers.BatchNormalization not in kinds and ExemplarNormalization in kinds
    assert not {id(v) for v in model.variables} & {id(v) for v in new.variables}
    return new, report


def backbone():
    return Backbone(4, name="backbone")


def task():
    return Task(backbone(), 3, name="task")


def inside():
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, layers.Flatten()(backbone()(inputs)["low"]))


def stem():
    return keras.Sequential([keras.Input(SHAPE), Stem(4, name="stem")])


def parametric():
    inputs = keras.Input(SHAPE)
    outputs = layers.BatchNormalization()(inputs)
    return Parametric(inputs, outputs, alpha=0.7, name="parametric")


PLAIN = {
    backbone: {"": "Backbone"},
    task: {"": "Task", "backbone": "Backbone"},
    inside: {"backbone": "Backbone"},
    stem: {"stem": "Stem"},
    parametric: {"": "Parametric"},
}


@pytest.mark.parametrize("build", PLAIN, ids=lambda build: build.__name__)
def test_models_with_constructors_of_their_own(rng, tmp_path, build):
    """They become plain models of the same graph, which a file keeps."""
    model, x = randomize(build(), rng), images(rng, (2, *SHAPE))
    new, report = converted(model, x)
    assert report.plain == {p or model.name: kind for p, kind in PLAIN[build].items()}
    assert not report.rebuilt_by_code
    for path, kind in report.plain.items():
        assert f"{path}: {kind} -> a plain model of the same graph" in str(report)
    new.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    pairs = (keras.tree.flatten(m(x, training=False)) for m in (new, again))
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))


def test_such_a_model_in_which_nothing_is_replaced_stays(rng):
    for part in (Stem(3, norm=False, name="stem"), OwnCall(3, norm=False, name="own")):
        inputs = keras.Input(SHAPE)
        outputs = layers.BatchNormalization(name="last")(part(inputs))
        model = randomize(keras.Model(inputs, outputs), rng)
        new, report = replace_normalization(
            model, select="last", initial_ratios=SAME, return_report=True
        )
        assert type(new.get_layer(part.name)) is type(part) and not report.plain
        assert difference(model, new, images(rng, (2, *SHAPE))) < 1e-5


def test_children_that_only_their_parent_can_make(rng):
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, Residual(name="layer")(inputs))
    new, report = converted(randomize(model, rng), images(rng, (2, 5, 3)))
    assert not report.rebuilt_by_code
    assert new.get_layer("layer").gate.factor == 3.0


class LowFeatures(keras.Model):
    """Calls a part of the model that it keeps."""

    def __init__(self, whole, **kwargs):
        super().__init__(whole.input, whole.output["low"], **kwargs)
        self.whole = whole


def test_what_a_model_keeps_and_does_not_call(rng):
    model = randomize(LowFeatures(backbone(), name="low"), rng)
    new, report = converted(model, images(rng, (2, *SHAPE)))
    assert list(report.replaced) == ["low_bn"]
    assert report.skipped == {"backbone/high_bn": "in no graph of the new model"}
    assert len(new.variables) < len(model.variables)


@keras.saving.register_keras_serializable("tests.strangers")
class Overwritten(layers.Layer):
    """Keeps a variable where its argument was, which its configuration then has."""

    def __init__(self, scale=2.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.bn = layers.BatchNormalization(name="bn")

    def build(self, shape):
        value = keras.initializers.Constant(self.scale)
        self.scale = self.add_weight(shape=(), initializer=value)
        self.bn.build(shape)

    def call(self, x, training=False):
        return self.scale * self.bn(x, training=training)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def test_a_configuration_with_a_variable_in_it(rng):
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, Overwritten(name="layer")(inputs))
    converted(randomize(model, rng), images(rng, (2, 5, 3)))


def test_a_lambda_keeps_its_function(rng):
    """With what it refers to: here, and in this module."""
    factor = 3.0
    inputs = keras.Input((5, 3))
    x = layers.Lambda(lambda x: x * factor + keras.ops.mean(x), name="own")(inputs)
    model = keras.Model(inputs, layers.BatchNormalization()(x))
    new, _ = converted(randomize(model, rng), images(rng, (2, 5, 3)))
    assert new.get_layer("own") is not model.get_layer("own")


@pytest.mark.tensorflow
def test_ragged_inputs(rng):
    """Right where they are dense before the normalization, otherwise an error."""
    import tensorflow as tf

    inputs = keras.Input((None, 3), ragged=True, name="rows")
    dense = layers.Lambda(lambda x: tf.reduce_mean(x, axis=1), output_shape=(3,))
    x = layers.BatchNormalization()(layers.Dense(4)(dense(inputs)))
    rows = tf.RaggedTensor.from_row_lengths(images(rng, (6, 3)), [1, 3, 2])
    converted(randomize(keras.Model(inputs, x), rng), rows)
    model = keras.Model(inputs, layers.BatchNormalization(name="bn")(inputs))
    with pytest.raises(TypeError, match="'bn' must be a dense tensor"):
        replace_normalization(model)


@pytest.mark.parametrize("wrap", [lambda x: x, layers.Bidirectional])
@pytest.mark.parametrize("rank", [1, 2])
def test_convolutional_recurrence(rng, wrap, rank):
    kind = {1: layers.ConvLSTM1D, 2: layers.ConvLSTM2D}[rank]
    inputs = keras.Input((3, *[4] * rank, 2))
    x = wrap(kind(2, 3, return_sequences=True))(inputs)
    model = randomize(keras.Model(inputs, layers.BatchNormalization()(x)), rng)
    converted(model, images(rng, (2, *inputs.shape[1:])))


class Pair(NamedTuple):
    dense: layers.Layer
    norm: layers.Layer


class InTuples(layers.Layer):
    """Norms in a tuple, in one with names, in one inside a dictionary."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pairs = [(layers.Dense(4), layers.BatchNormalization())]
        self.named = Pair(layers.Dense(3), layers.BatchNormalization())
        self.by_name = {"last": (layers.BatchNormalization(),)}

    def build(self, shape):
        for dense, norm in (*self.pairs, self.named):
            dense.build(shape)
            shape = (*shape[:-1], dense.units)
            norm.build(shape)
        self.by_name["last"][0].build(shape)

    def call(self, x, training=False):
        for dense, norm in (*self.pairs, self.named):
            x = norm(dense(x), training=training)
        return self.by_name["last"][0](x, training=training)


def test_norms_in_tuples(rng):
    model = keras.Sequential([keras.Input((4, 4, 3)), InTuples(name="block")])
    new, report = converted(model, images(rng, (2, 4, 4, 3)))
    assert len(report.replaced) == 3
    block = new.get_layer("block")
    assert isinstance(block.named, Pair) and isinstance(block.pairs[0], tuple)
    before = numpy(block.named.norm.gamma)
    new.compile("sgd", "mse")
    new.fit(images(rng, (4, 4, 4, 3)), images(rng, (4, 4, 4, 3)), verbose=0)
    assert (numpy(block.named.norm.gamma) != before).any()


class Nameless(Deep):
    """Its configuration does not say its name."""

    def get_config(self):
        return {}


def test_names_that_no_configuration_says(rng):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Nameless(name="first")(Nameless()(inputs)))
    new, _ = converted(model, images(rng, (5, 4)))
    assert [layer.name for layer in new.layers] == [la.name for la in model.layers]
