"""Models and layers under every strategy of `tf.distribute`: `fit`, files, refusals."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
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
