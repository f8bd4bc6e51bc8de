"""Batch statistics under MirroredStrategy against one device with the whole batch."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends
from tests.backends import images, numpy

pytestmark = pytest.mark.tensorflow


# TensorFlow numbers the collective groups of every strategy from 1, so a process has
# room for strategies of one size only.
REPLICAS = int(os.environ.get("KERAS_EN_TEST_REPLICAS", "2"))
SPLITS = {
    2: [(8, 8), (6, 2), (8, 0), (1, 1)],
    4: [(4, 4, 4, 4), (5, 1, 0, 2), (1, 1, 1, 1)],
}[REPLICAS]


@pytest.fixture(scope="module")
def strategy():
    import tensorflow as tf

    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])


def distributed_step(strategy, layer, parts, cotangents, masks):
    """As `backends.step`, with `parts[i]` on replica `i`."""
    import tensorflow as tf

    def per_replica(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[context.replica_id_in_sync_group])
        )

    @tf.function
    def run(x, cotangent, mask):
        def replica(x, cotangent, mask):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, training=True, mask=mask)
                loss = tf.reduce_sum(outputs * cotangent)
            variables = [v.value for v in layer.trainable_variables]
            return outputs, tape.gradient(loss, [x, *variables])

        return strategy.run(replica, (x, cotangent, mask))

    outputs, (dx, *gradients) = run(
        *(per_replica(values) for values in (parts, cotangents, masks))
    )

    def locals_of(value):
        return [numpy(v) for v in strategy.experimental_local_results(value)]

    return (
        np.concatenate(locals_of(outputs)),
        np.concatenate(locals_of(dx)),
        [sum(locals_of(gradient)) for gradient in gradients],
        {
            name: locals_of(getattr(layer, name).value)
            for name in ("moving_mean", "moving_variance")
        },
    )


@pytest.mark.parametrize("masked", [False, True], ids="mask-{}".format)
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
def test_a_split_batch_is_the_whole_batch(
    rng, strategy, split, axis, masked, dtype, tolerance
):
    shape = [sum(split), 4, 4, 4]
    shape[axis] = 6
    x, cotangent = images(rng, shape, dtype), images(rng, shape, dtype)
    mask = np.ones((sum(split), 4, 4), bool)
    if masked:
        mask = rng.random(mask.shape) < 0.7

    def build(synchronized):
        layer = ExemplarNormalization(
            axis=axis, synchronized=synchronized, momentum=0.5, expansion=2, dtype=dtype
        )
        layer.build(shape)
        return layer

    whole = build(False)
    backends.randomize(whole, rng)
    with strategy.scope():
        layer = build(True)
        for variable, source in zip(layer.variables, whole.variables, strict=True):
            variable.assign(numpy(source))

    edges = np.cumsum((0, *split))
    parts = [
        [values[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        for values in (x, cotangent, mask)
    ]
    outputs, dx, gradients, state = distributed_step(strategy, layer, *parts)
    expected = backends.step(whole, x, cotangent, True, mask)

    def assert_equal(actual, wanted, name):
        scale = max(1, np.abs(wanted).max())
        assert np.abs(actual - wanted).max() <= tolerance * scale, name

    assert_equal(outputs, expected.outputs, "outputs")
    assert_equal(dx, expected.dx, "dx")
    for variable, gradient in zip(whole.trainable_variables, gradients, strict=True):
        assert_equal(gradient, expected.gradients[variable.name], variable.name)
    for name, values in state.items():
        for value in values:
            assert_equal(value, expected.state[name], name)


@pytest.mark.skipif(REPLICAS == 4, reason="this is that process")
def test_four_replicas_in_a_process_of_their_own():
    command = [sys.executable, "-m", "pytest", __file__, "-k", "split_batch"]
    environment = {**os.environ, "KERAS_EN_TEST_REPLICAS": "4"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "24 passed" in done.stdout


def test_variance_at_a_large_mean(rng, strategy):
    """Keras's own synchronized statistics return a variance of 0 here."""
    x = (rng.normal(size=(8, 8, 8, 4)) + 1e4).astype("float32")
    with strategy.scope():
        layer = ExemplarNormalization(synchronized=True, momentum=0.0)
        layer.build(x.shape)
    parts = np.split(x, REPLICAS)
    masks = [np.ones(part.shape[:-1], bool) for part in parts]
    *_, state = distributed_step(strategy, layer, parts, parts, masks)
    expected = x.astype("float64").var(axis=(0, 1, 2))
    for variance in state["moving_variance"]:
        np.testing.assert_allclose(variance, expected, rtol=0.01)


def test_one_all_reduce_a_layer_and_direction(rng, strategy):
    import tensorflow as tf

    with strategy.scope():
        layer = ExemplarNormalization(synchronized=True)
        layer.build((None, 4, 4, 8))

    def forward(x):
        return layer(x, training=True)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(loss, x)

    found = []
    for function in (forward, both):
        run = tf.function(lambda x, f=function: strategy.run(f, (x,)))
        graph = run.get_concrete_function(tf.TensorSpec((4, 4, 4, 8))).graph
        kinds = [op.type for op in graph.get_operations()]
        found.append(sum("Collective" in kind for kind in kinds) / REPLICAS)
    assert found == [1, 2]


def test_without_a_strategy_nothing_changes(rng):
    x = images(rng)
    plain, synchronized = (
        ExemplarNormalization(),
        ExemplarNormalization(synchronized=True),
    )
    np.testing.assert_array_equal(
        numpy(plain(x, training=True)), numpy(synchronized(x, training=True))
    )


def test_fit_under_a_strategy(rng, strategy):
    x, y = images(rng, (16, 6, 6, 3)), rng.integers(0, 2, 16)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                ExemplarNormalization(synchronized=True),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2),
            ]
        )
        model.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
    history = model.fit(x, y, epochs=3, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]
