"""Batch statistics under MirroredStrategy against one device with the whole batch."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_en import (
    ExemplarNormalization,
    SparseSwitchableNormalization,
    SwitchableNormalization,
)
from tests import backends
from tests.backends import images, numpy
from tests.conftest import REPLICAS
from tests.layers.test_switchable import Outputs

pytestmark = pytest.mark.tensorflow


SPLITS = {
    2: [(8, 8), (6, 2), (8, 0), (1, 1)],
    4: [(4, 4, 4, 4), (5, 1, 0, 2), (1, 1, 1, 1)],
}[REPLICAS]


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


def test_a_batch_in_parts_by_hand(strategy):
    """Of 0, 2, 4 and 6 on all replicas together: mean 3, variance 5."""
    x = np.reshape([0.0, 2.0, 4.0, 6.0], (4, 1)).astype("float32")
    with strategy.scope():
        layer = ExemplarNormalization(
            normalizers=["batch"], epsilon=1e-7, momentum=0.0, synchronized=True
        )
        layer.build(x.shape)
    parts, masks = np.split(x, REPLICAS), np.split(np.ones(4, bool), REPLICAS)
    outputs, _, _, state = distributed_step(strategy, layer, parts, parts, masks)
    np.testing.assert_allclose(outputs, (x - 3) / np.sqrt(5), atol=1e-5)
    np.testing.assert_allclose(state["moving_mean"], [[3]] * REPLICAS, rtol=1e-5)


@pytest.mark.thorough(4)
@pytest.mark.parametrize("masked", [False, True], ids="mask-{}".format)
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
def test_a_split_batch_is_the_whole_batch(
    rng, strategy, split, axis, masked, dtype, tolerance
):
    compare(rng, strategy, split, axis, masked, dtype, tolerance)


@pytest.mark.parametrize("split", SPLITS[1:3], ids=str)
@pytest.mark.parametrize("share", [None, 0.0, 0.4], ids="radius-{}".format)
def test_switches_of_parts_are_those_of_the_whole(rng, strategy, split, share):
    def build(**kwargs):
        if share is None:
            return SwitchableNormalization(**kwargs)
        return SparseSwitchableNormalization(**kwargs)

    def prepare(layer):
        if share is not None:
            layer.set_radius(share)

    compare(rng, strategy, split, -1, True, "float64", 1e-10, build, prepare)


def test_batch_normalization_of_parts_is_that_of_the_whole(rng, strategy):
    def build(**kwargs):
        return SwitchableNormalization(normalizers=("batch",), **kwargs)

    compare(rng, strategy, SPLITS[1], -1, False, "float32", 1e-5, build)


def compare(
    rng,
    strategy,
    split,
    axis,
    masked,
    dtype,
    tolerance,
    make=lambda **kwargs: ExemplarNormalization(expansion=2, **kwargs),
    prepare=lambda layer: None,
):
    shape = [sum(split), 4, 4, 4]
    shape[axis] = 6
    x, cotangent = images(rng, shape, dtype), images(rng, shape, dtype)
    mask = np.ones(shape[:-1], bool)
    if masked:
        mask = rng.random(mask.shape) < 0.7

    def build(synchronized):
        layer = make(axis=axis, synchronized=synchronized, momentum=0.5, dtype=dtype)
        layer.build(shape)
        return layer

    whole = build(False)
    backends.randomize(whole, rng)
    prepare(whole)
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
    stepped = whole if hasattr(whole, "ratio_conv") else Outputs(whole)
    expected = backends.step(stepped, x, cotangent, True, mask)

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


@pytest.mark.slow
@pytest.mark.skipif(REPLICAS == 4, reason="this is that process")
def test_four_replicas_in_a_process_of_their_own():
    command = [sys.executable, "-m", "pytest", __file__]
    command += ["-k", "split_batch and float64"]
    environment = {**os.environ, "KERAS_EN_TEST_REPLICAS": "4"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-4000:]
    assert "12 passed" in process.stdout


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


@pytest.mark.parametrize("synchronized, counts", [(True, [1, 2]), (False, [1, 1])])
def test_one_all_reduce_a_layer_and_direction(strategy, synchronized, counts):
    import tensorflow as tf

    with strategy.scope():
        layer = ExemplarNormalization(synchronized=synchronized)
        layer.build((None, 4, 4, 8))

    def forward(x):
        return layer(x, training=True)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(loss, x)

    reduces = []
    for function in (forward, both):
        run = tf.function(lambda x, f=function: strategy.run(f, (x,)))
        graph = run.get_concrete_function(tf.TensorSpec((4, 4, 4, 8))).graph
        kinds = [op.type for op in graph.get_operations()]
        reduces.append(sum("Collective" in kind for kind in kinds) / REPLICAS)
    assert reduces == counts


def test_without_a_strategy_nothing_changes(rng):
    x = images(rng)
    plain, synchronized = (
        ExemplarNormalization(),
        ExemplarNormalization(synchronized=True),
    )
    np.testing.assert_array_equal(
        numpy(plain(x, training=True)), numpy(synchronized(x, training=True))
    )


@pytest.mark.thorough(4)
@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("synchronized", [True, False])
def test_moving_statistics_are_the_same_everywhere(rng, strategy, synchronized, split):
    """Keras's own, without synchronization, are those of each replica."""
    shape = (sum(split), 4, 4, 6)
    x = images(rng, shape)
    with strategy.scope():
        layer = ExemplarNormalization(synchronized=synchronized, momentum=0.0)
        layer.build(shape)
    parts = np.split(x, np.cumsum(split)[:-1])
    masks = [np.ones(part.shape[:-1], bool) for part in parts]
    *_, state = distributed_step(strategy, layer, parts, parts, masks)
    exact = x.astype("float64")
    for values, expected in zip(
        (state["moving_mean"], state["moving_variance"]),
        (exact.mean((0, 1, 2)), exact.var((0, 1, 2))),
        strict=True,
    ):
        for value in values:
            np.testing.assert_array_equal(value, values[0])
            np.testing.assert_allclose(value, expected, atol=1e-5)


def test_without_synchronization_a_replica_normalizes_its_own(rng, strategy):
    import tensorflow as tf

    x = images(rng, (8, 4, 4, 6))
    parts = np.split(x, REPLICAS)
    with strategy.scope():
        layer = ExemplarNormalization(normalizers=["batch"])
        layer.build(x.shape)
    masks = [np.ones(part.shape[:-1], bool) for part in parts]
    outputs, *_ = distributed_step(strategy, layer, parts, parts, masks)
    alone = ExemplarNormalization(normalizers=["batch"])
    expected = [numpy(alone(tf.constant(part), training=True)) for part in parts]
    np.testing.assert_allclose(outputs, np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(rng, strategy, policy):
    x = images(rng, (8, 4, 4, 6)).astype(keras.DTypePolicy(policy).compute_dtype)
    whole = ExemplarNormalization(dtype=policy, momentum=0.5)
    whole.build(x.shape)
    with strategy.scope():
        layer = ExemplarNormalization(dtype=policy, momentum=0.5, synchronized=True)
        layer.build(x.shape)
    for variable, source in zip(layer.variables, whole.variables, strict=True):
        variable.assign(numpy(source))
    parts = np.split(x, [6, 7, 8][: REPLICAS - 1])
    masks = [np.ones(part.shape[:-1], bool) for part in parts]
    outputs, dx, gradients, state = distributed_step(
        strategy, layer, parts, parts, masks
    )
    expected = backends.step(whole, x, x, True)
    # Outputs are rounded to 8 or 11 bits, statistics and weights' gradients are not.
    np.testing.assert_allclose(
        outputs.astype("float32"), expected.outputs.astype("float32"), atol=0.03
    )
    for name, values in state.items():
        for value in values:
            np.testing.assert_allclose(value, expected.state[name], atol=1e-5)
