"""What layers keep of a call, losses first, belongs to the replica that calls."""

import functools
import types

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, training
from tests.backends import numpy

pytestmark = pytest.mark.tensorflow


class Penalty(keras.layers.Layer):
    """The mean square of what passes, as a loss."""

    def call(self, inputs):
        self.add_loss(keras.ops.mean(keras.ops.square(inputs)))
        return inputs


@pytest.fixture
def floatx(request):
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx("float32")


@pytest.mark.thorough(4)
@pytest.mark.parametrize("floatx", ["float32", "float64"], indirect=True)
@pytest.mark.parametrize("synchronized", [True, False])
@pytest.mark.parametrize("fit", ["model.fit", "eager", "training.fit"])
def test_losses_that_layers_add_are_those_of_one_device(
    rng, strategy, fit, synchronized, floatx
):
    """Twice in the network, once inside a layer of it; parts of other sizes of loss."""
    x = rng.normal(1, 2, (8, 4, 4, 3)).astype(floatx)
    x[4:] *= 3
    y = rng.normal(size=(8, 2)).astype(floatx)
    tolerance = {"float32": 1e-5, "float64": 1e-10}[floatx]

    def build():
        keras.utils.set_random_seed(0)
        regularizer = keras.regularizers.L2(0.01)
        # Not synchronized, statistics of a part are not those of the whole batch.
        ratios = None if synchronized else {"instance": 1.0}
        layers = [
            keras.layers.Conv2D(4, 3, activity_regularizer=regularizer),
            Penalty(),
            ExemplarNormalization(synchronized=synchronized, initial_ratios=ratios),
            keras.Sequential([Penalty()]),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
        model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
        eagerly = {"run_eagerly": fit == "eager", "jit_compile": False}
        model.compile(keras.optimizers.SGD(0.01), "mse", **eagerly)
        return model

    expected = build()
    with strategy.scope():
        model = build()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    loss = expected.fit(x, y, **options).history["loss"]
    ours = functools.partial(training.fit, model)
    run = ours if fit == "training.fit" else model.fit
    losses = run(x, y, **options).history["loss"]
    np.testing.assert_allclose(losses, loss, rtol=tolerance)
    for ours, theirs in zip(
        model.trainable_variables, expected.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), atol=tolerance)


OUTSIDE = []


class Memory(keras.layers.Layer):
    """Keeps what passes, for a loss of the network's own."""

    def __init__(self):
        super().__init__()
        self.last, self.passed = None, []
        self.by_name, self.pair, self.deep = {}, None, {"of a scale": [None]}
        self.by_number, self.space = {0: None}, types.SimpleNamespace()

    def call(self, inputs):
        self.last = inputs
        self.passed[:] = [inputs]
        self.by_name["inputs"], self.pair = inputs, (inputs, "passed")
        self.deep["of a scale"][0] = inputs
        self.by_number[0] = self.space.last = inputs
        OUTSIDE[:] = [inputs]
        return inputs

    def sum(self):
        others = self.by_name["inputs"], self.pair[0], self.deep["of a scale"][0]
        others += self.by_number[0], self.space.last, OUTSIDE[0]
        return sum(others, self.last + self.passed[0])


class Remembering(keras.Model):
    """The mean square of what a layer keeps of the call."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        (memory,) = (layer for layer in self.layers if isinstance(layer, Memory))
        own = keras.ops.mean(keras.ops.square(memory.sum()))
        return own + keras.ops.mean(keras.ops.square(y - y_pred))


def test_what_a_layer_keeps_of_a_call_is_its_own_replicas(rng, strategy):
    x = rng.normal(1, 2, (8, 4)).astype("float32")
    x[4:] *= 3

    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        outputs = Memory()(keras.layers.Dense(4)(inputs))
        outputs = ExemplarNormalization(synchronized=True, groups=2)(outputs)
        model = Remembering(inputs, keras.layers.Dense(2)(outputs))
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        return model

    expected = build()
    with strategy.scope():
        model = build()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    y = np.zeros((8, 2), "float32")
    losses = [
        run(x, y, **options).history["loss"]
        for run in (expected.fit, functools.partial(training.fit, model))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


class TwoParts(keras.Model):
    """Calls one part behind the other, and asks them for their losses then."""

    def __init__(self, **kwargs):
        super().__init__()
        self.parts, self.memory = [], Memory()
        for seed in range(2):
            keras.utils.set_random_seed(seed)
            layers = [
                keras.layers.Conv2D(3, 3, padding="same", activity_regularizer="l2"),
                Penalty(),
                ExemplarNormalization(initial_ratios={"instance": 1.0}, **kwargs),
                self.memory,
                Penalty(),
            ]
            self.parts.append(keras.Sequential([keras.Input((4, 4, 3)), *layers]))

    def call(self, inputs, training=False):
        first, second = self.parts
        return second(first(inputs, training=training), training=training)

    def train_step(self, data):
        import tensorflow as tf

        (x, y), (first, second) = data, self.parts
        with tf.GradientTape() as tape:
            outputs = second(first(x, training=True), training=True)
            loss = tf.reduce_mean((outputs - y) ** 2) + sum(first.losses)
            loss += 10 * sum(second.losses) + tf.reduce_mean(self.memory.sum() ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        replica = tf.distribute.get_replica_context()
        return {"loss": replica.all_reduce("SUM", loss)}


@pytest.mark.parametrize("synchronized", [True, False])
def test_a_training_step_that_calls_parts(rng, strategy, synchronized):
    """With ratios of "instance" alone no other replica changes outputs."""
    x = rng.normal(size=(8, 4, 4, 3)).astype("float32")
    x[4:] *= 3
    weights = []
    for pool in (["instance"], ["instance", "batch"]):
        with strategy.scope():
            model = TwoParts(normalizers=pool, synchronized=synchronized)
            model.compile(keras.optimizers.SGD(1e-3), jit_compile=False)
            model.build(x.shape)
        model.fit(x, x, batch_size=8, epochs=2, shuffle=False, verbose=0)
        convolutions = (part.layers[0] for part in model.parts)
        weights.append([numpy(w) for c in convolutions for w in c.weights])
    for one, other in zip(*weights, strict=True):
        # Of the ratio 1.0, float32 leaves the others some 1e-7.
        np.testing.assert_allclose(one, other, atol=1e-5)
