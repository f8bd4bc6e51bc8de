"""Models and layers under every strategy of `tf.distribute`: `fit`, files, refusals."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, training
from tests.backends import images, numpy

pytestmark = pytest.mark.tensorflow


def classifier(**kwargs):
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            ExemplarNormalization(**kwargs),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )


def test_a_layer_under_a_strategy_by_hand(strategy):
    """What each replica normalizes by itself, if it is not synchronized: 1 and 3."""
    import tensorflow as tf

    with strategy.scope():
        layer = ExemplarNormalization(normalizers=["layer"], epsilon=1e-7)
        layer.build((1, 2))
    x = tf.constant([[1.0, 3.0]])
    outputs = tf.function(lambda: strategy.run(layer, (x,)))()
    for y in strategy.experimental_local_results(outputs):
        np.testing.assert_allclose(numpy(y), [[-1, 1]], atol=1e-5)


def test_fit_under_a_strategy(rng, strategy):
    x, y = images(rng, (16, 6, 6, 3)), rng.integers(0, 2, 16)
    with strategy.scope():
        model = classifier(synchronized=True)
        model.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
    history = model.fit(x, y, epochs=3, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]


def test_what_is_saved_is_what_was_evaluated(rng, strategy, tmp_path):
    x, y = images(rng, (16, 6, 6, 3)), rng.integers(0, 2, 16)
    with strategy.scope():
        model = classifier(synchronized=False)
        model.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
    model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    evaluated = model.evaluate(x, y, batch_size=8, verbose=0)
    predicted = model.predict(x, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, batch_size=16, verbose=0), predicted, atol=1e-6
    )
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(evaluated, rel=1e-5)


def test_one_device_strategy(rng):
    import tensorflow as tf

    x = images(rng)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        layer = ExemplarNormalization(synchronized=True)
        layer.build(x.shape)
    alone = ExemplarNormalization()
    alone.build(x.shape)
    alone.set_weights(layer.get_weights())
    run = tf.function(lambda x: strategy.run(lambda x: layer(x, training=True), (x,)))
    np.testing.assert_allclose(
        numpy(run(tf.constant(x))), numpy(alone(x, training=True)), atol=1e-6
    )


PARAMETER_SERVER = """
import json, os, socket

def port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]

cluster = {name: [f"127.0.0.1:{port()}"] for name in ("worker", "ps")}
import tensorflow as tf
servers = [
    tf.distribute.Server(cluster, job_name=name, task_index=0, protocol="grpc")
    for name in cluster
]
resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
    tf.train.ClusterSpec(cluster), rpc_layer="grpc"
)
from keras_en import ExemplarNormalization
with tf.distribute.ParameterServerStrategy(resolver).scope():
    ExemplarNormalization(normalizers=["instance"]).build((None, 4, 4, 8))
    try:
        ExemplarNormalization().build((None, 4, 4, 8))
    except ValueError as error:
        print("refused:", error, flush=True)
os._exit(0)
"""


def test_a_parameter_server_is_refused():
    process = subprocess.run(
        [sys.executable, "-c", PARAMETER_SERVER], capture_output=True, text=True
    )
    assert "refused: Batch statistics need a strategy" in process.stdout, process.stderr
    assert "Received: strategy=ParameterServerStrategyV2" in process.stdout


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
@pytest.mark.parametrize("fit", ["model.fit", "training.fit"])
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
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
        return model

    expected, model = build(), None
    with strategy.scope():
        model = build()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    loss = expected.fit(x, y, **options).history["loss"]
    run = model.fit if fit == "model.fit" else functools.partial(training.fit, model)
    losses = run(x, y, **options).history["loss"]
    np.testing.assert_allclose(losses, loss, rtol=tolerance)
    for ours, theirs in zip(
        model.trainable_variables, expected.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(numpy(ours), numpy(theirs), atol=tolerance)


class Memory(keras.layers.Layer):
    """Keeps what passes, for a loss of the network's own."""

    def __init__(self):
        super().__init__()
        self.last, self.passed = None, []
        self.by_name, self.pair, self.deep = {}, None, {"of a scale": [None]}

    def call(self, inputs):
        self.last = inputs
        self.passed[:] = [inputs]
        self.by_name["inputs"], self.pair = inputs, (inputs, "passed")
        self.deep["of a scale"][0] = inputs
        return inputs

    def sum(self):
        others = self.by_name["inputs"], self.pair[0], self.deep["of a scale"][0]
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


class Cell(keras.layers.Layer):
    """A recurrent cell that normalizes its state."""

    def __init__(self, units, **kwargs):
        super().__init__()
        self.state_size = self.output_size = units
        self.dense = keras.layers.Dense(units)
        self.norm = ExemplarNormalization(**kwargs)

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((shape[0], self.state_size))

    def call(self, inputs, states, training=False):
        state = self.norm(self.dense(inputs) + states[0], training=training)
        return state, [state]


def recurrent(unroll, **kwargs):
    inputs = keras.Input((3, 2))
    outputs = keras.layers.RNN(Cell(2, **kwargs), unroll=unroll)(inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=False)
    return model


@pytest.mark.thorough
@pytest.mark.parametrize(
    "unroll, synchronized", [(False, False), (True, True), (False, True)]
)
def test_in_the_loop_of_an_rnn(rng, strategy, unroll, synchronized):
    x, y = images(rng, (8, 3, 2)), images(rng, (8, 2))
    with strategy.scope():
        model = recurrent(unroll, synchronized=synchronized)
    if not unroll and synchronized:
        with pytest.raises(ValueError, match="inside a loop.*unroll=True"):
            model.fit(x, y, batch_size=8, verbose=0)
        return
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[1] != history[0]


class Inner(keras.layers.Layer):
    """A layer in a function of its own within the graph of a step."""

    def __init__(self, norm, jit_compile):
        super().__init__()
        import tensorflow as tf

        self.norm = norm
        self.run = tf.function(
            lambda x, training: self.norm(x, training=training), jit_compile=jit_compile
        )

    def call(self, inputs, training=False):
        return self.run(inputs, training)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("synchronized", [False, True])
def test_in_a_function_within_the_graph(rng, strategy, synchronized, jit_compile):
    x = images(rng, (8, 3))
    with strategy.scope():
        norm = ExemplarNormalization(synchronized=synchronized)
        model = keras.Sequential([keras.Input((3,)), Inner(norm, jit_compile)])
        model.compile("sgd", "mse", jit_compile=False)
    if synchronized:
        with pytest.raises(ValueError, match="function within a graph.*synchronized"):
            model.fit(x, x, batch_size=8, verbose=0)
        return
    history = model.fit(x, x, batch_size=8, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[1] != history[0]


def test_a_loop_is_not_recalibrated(rng):
    with pytest.raises(ValueError, match="recalibration.*inside a loop.*unroll=True"):
        training.recalibrate(recurrent(False), images(rng, (8, 3, 2)))


@pytest.mark.parametrize("run", ["model.fit", "training.fit"])
def test_strategies_of_other_devices_in_one_process(rng, strategy, run):
    """TensorFlow numbers the groups of every one from 1."""
    import tensorflow as tf

    x, y = images(rng, (12, 6, 6, 3)), np.zeros((12, 2), "float32")
    devices = (["CPU:1", "CPU:2", "CPU:3"], ["CPU:2", "CPU:3"])
    others = [tf.distribute.MirroredStrategy(each) for each in devices]
    losses = []
    for each in (strategy, *others, strategy):
        keras.utils.set_random_seed(0)
        with each.scope():
            model = classifier(synchronized=True)
            model.compile("sgd", "mse", jit_compile=False)
        fit = (
            model.fit if run == "model.fit" else functools.partial(training.fit, model)
        )
        history = fit(x, y, batch_size=12, epochs=2, shuffle=False, verbose=0).history
        losses.append(history["loss"])
    for loss in losses[1:]:
        np.testing.assert_allclose(loss, losses[0], rtol=1e-5)
