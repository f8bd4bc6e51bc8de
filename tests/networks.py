"""Networks to operate on: every way in which one layer can hold another."""

import keras
import numpy as np
from keras import layers

from tests.backends import numpy

SHAPE = (8, 8, 4)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Holds normalizations as an attribute, in a list and in a dictionary."""

    def __init__(self, filters=4, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 1, name="conv")
        self.first = layers.BatchNormalization(name="first")
        self.steps = [layers.BatchNormalization(name="second"), layers.ReLU()]
        self._named = {"x": layers.BatchNormalization(name="third")}

    def call(self, x, training=None):
        x = self.first(self.conv(x), training=training)
        for step in self.steps:
            x = step(x)
        return self._named["x"](x, training=training)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("tests")
class Late(layers.Layer):
    """Makes its layers when it is built."""

    def build(self, shape):
        self.norm = layers.BatchNormalization(name="norm")
        self.norm.build(shape)

    def call(self, x, training=None):
        return self.norm(x, training=training)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = Block(name="block")
        self.norm = layers.BatchNormalization(name="norm")
        self.out = layers.Dense(2, name="out")

    def call(self, x, training=None):
        x = self.norm(self.block(x, training=training), training=training)
        return self.out(x)


def functional():
    x = inputs = keras.Input(SHAPE, name="images")
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.BatchNormalization(epsilon=0.02, name="bn")(x)
    x = layers.Add(name="add")([x, keras.ops.relu(x)])
    return keras.Model(inputs, layers.Flatten(name="flat")(x), name="functional")


def sequential():
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.Flatten(name="flat"),
            layers.BatchNormalization(name="flat_bn"),
        ],
        name="sequential",
    )


def nested():
    inner = functional()
    shared = layers.BatchNormalization(name="shared")
    inputs = keras.Input(SHAPE, name="images")
    x = layers.Concatenate(name="both")([shared(inputs), shared(inputs * 2.0)])
    x = layers.Flatten(name="flat")(x)
    x = layers.Concatenate(name="all")([x, inner(inputs), sequential()(inputs)])
    return keras.Model(inputs, x, name="nested")


def composite():
    x = inputs = keras.Input(SHAPE, name="images")
    x = Late(name="late")(Block(name="block")(x))
    norm = layers.BatchNormalization(name="norm")
    x = layers.TimeDistributed(norm, name="rows")(x)
    return keras.Model(inputs, x, name="composite")


def subclassed():
    model = Subclassed(name="subclassed")
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def randomize(model, rng):
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            low, high = (0.5, 1.5) if "variance" in variable.name else (-1, 1)
            variable.assign(rng.uniform(low, high, tuple(variable.shape)))
    return model


def difference(one, other, x):
    one, other = (numpy(m(x, training=False)) for m in (one, other))
    return np.abs(one - other).max() / np.abs(one).max()


@keras.saving.register_keras_serializable("tests")
class Standard(layers.Layer):
    """Builds its layers in `build`, as Keras recommends."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4, name="dense")
        self.norm = layers.BatchNormalization(name="norm")

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((*shape[:-1], 4))

    def call(self, x, training=None):
        return self.norm(self.dense(x), training=training)


@keras.saving.register_keras_serializable("tests")
class StandardModel(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Equal names, as of three blocks of a kind.
        self.parts = [Standard(name="part") for _ in range(3)]

    def build(self, shape):
        for part in self.parts:
            part.build(shape)

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x, training=training)
        return x


@keras.saving.register_keras_serializable("tests")
class Spare(layers.Layer):
    """Has a layer that it does not call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")
        self.spare = layers.BatchNormalization(name="spare")

    def call(self, x):
        return self.norm(x)


class Strange(keras.layers.BatchNormalization):
    pass


class Unsaved(layers.Layer):
    def __init__(self, thing, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x):
        return self.norm(x)


class Lost(layers.Layer):
    """Keeps layers with weights in a set."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")
        self.others = {layers.Dense(4, name="dense")}

    def call(self, x):
        (dense,) = self.others
        return self.norm(dense(x))


class Parametric(keras.Model):
    def __init__(self, *args, alpha=0.1, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha


class OwnCall(Parametric):
    """Its graph does not say what it computes."""

    def call(self, x, training=False):
        return self.alpha * super().call(x, training=training)


class Hidden(layers.Layer):
    """Keeps its layer where nobody else can put another."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norms = {layers.BatchNormalization(name="norm")}

    def call(self, x):
        (norm,) = self.norms
        return norm(x)


def of(layer):
    return keras.Sequential([keras.Input(SHAPE), layer])
