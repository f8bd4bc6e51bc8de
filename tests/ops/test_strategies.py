"""Models and layers under every strategy of `tf.distribute`: `fit`, files, refusals."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, training
from keras_en.ops import replicas
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


def test_strategies_of_the_same_devices_reduce_other_dtypes(rng, strategy):
    """TensorFlow numbers the collectives of every one from 100."""
    import tensorflow as tf

    for dtype in ("float32", "float64", "float32"):
        again = tf.distribute.MirroredStrategy(strategy.extended.worker_devices)
        step = tf.function(again.run)
        x = tf.ones(3, dtype)
        sums = step(lambda x=x: replicas.all_reduce([x, 2 * x]))
        for each, factor in zip(sums, (2, 4), strict=True):
            for value in again.experimental_local_results(each):
                np.testing.assert_array_equal(numpy(value), factor * np.ones(3))
