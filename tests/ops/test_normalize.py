"""TensorFlow traces a training pass once for layers of a kind."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends
from tests.backends import images, numpy

pytestmark = pytest.mark.tensorflow
SHAPE = (4, 6, 6, 8)


def step(layers, batch=SHAPE[0], jit_compile=False, dtype="float32"):
    """The graph function of dx and the gradients of every weight."""
    import tensorflow as tf

    @tf.function(jit_compile=jit_compile)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for layer in layers:
                y = layer(y, training=True)
            loss = tf.reduce_sum(y**3)
        weights = [v.value for layer in layers for v in layer.trainable_variables]
        return tape.gradient(loss, [x, *weights])

    return run.get_concrete_function(tf.TensorSpec((batch, *SHAPE[1:]), dtype))


def built(rng, **kwargs):
    layer = ExemplarNormalization(**kwargs)
    layer.build(SHAPE)
    backends.randomize(layer, rng)
    return layer


def calls(function):
    """Names of the functions that a graph calls."""
    graph = function.graph.as_graph_def()
    return [node.attr["f"].func.name for node in graph.node if "f" in node.attr]


def test_layers_of_a_kind_share_a_function(rng):
    called = calls(step([built(rng) for _ in range(3)]))
    assert len(called) == 6, "forward and backward of three layers"
    assert len(set(called)) == 2
    called = calls(step([built(rng), built(rng, normalizers=["layer", "batch"])]))
    assert len(set(called)) == 4, "another kind has functions of its own"


def test_grappler_needs_no_copy_of_them(rng):
    """It copies a function for every call with a constant or an unused output."""
    graph = step([built(rng), built(rng)]).graph
    for op in graph.get_operations():
        if "PartitionedCall" not in op.type:
            continue
        assert not [t.op for t in op.inputs if t.op.type == "Const"], op.name
        used = [t for t in op.outputs if t.consumers()]
        assert len(used) == len(op.outputs), op.name


def test_a_frozen_layer_and_one_that_learns_are_of_two_kinds(rng):
    learns, frozen = built(rng), built(rng)
    frozen.trainable = False
    assert len(set(calls(step([learns, frozen])))) == 4
    before = numpy(frozen.moving_mean)
    step([learns, frozen])(images(rng, SHAPE))
    np.testing.assert_array_equal(numpy(frozen.moving_mean), before)


@pytest.mark.parametrize("batch", [SHAPE[0], None])
def test_traced_once_equals_eager(rng, batch):
    import tensorflow as tf

    # float64: two layers and a cube make float32 rounding visible in the gradients.
    layers = [built(rng, dtype="float64"), built(rng, dtype="float64")]
    x = tf.constant(images(rng, SHAPE), "float64")
    start = [numpy(layer.moving_mean) for layer in layers]
    actual = [numpy(value) for value in step(layers, batch, dtype="float64")(x)]
    moved = [numpy(layer.moving_mean) for layer in layers]
    for layer, mean in zip(layers, start, strict=True):
        layer.moving_mean.assign(mean)
    tf.config.run_functions_eagerly(True)
    try:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layers[1](layers[0](x, training=True), training=True)
            loss = tf.reduce_sum(y**3)
        weights = [v.value for layer in layers for v in layer.trainable_variables]
        expected = [numpy(value) for value in tape.gradient(loss, [x, *weights])]
    finally:
        tf.config.run_functions_eagerly(False)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11 * max(1, np.abs(other).max()))
    for layer, mean in zip(layers, moved, strict=True):
        np.testing.assert_allclose(numpy(layer.moving_mean), mean, atol=1e-12)


@pytest.mark.parametrize("direct", [True, False], ids=["layer", "function"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_activation_with_weights_learns(rng, jit_compile, direct):
    import tensorflow as tf

    slopes = keras.layers.PReLU()
    slopes.build((None, 150))
    activation = slopes if direct else lambda units: slopes(units)
    layer = ExemplarNormalization(ratio_activation=activation)
    layer.build(SHAPE)
    backends.randomize(layer, rng)
    slopes.alpha.assign(rng.normal(size=150))

    @tf.function(jit_compile=jit_compile)
    def run(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) ** 3)
        return tape.gradient(loss, slopes.alpha.value)

    assert np.abs(numpy(run(tf.constant(images(rng, SHAPE))))).max() > 0


@dataclasses.dataclass
class Swish:
    """Not hashable, and not the same function for ever."""

    beta: float

    def __call__(self, units):
        return units * keras.ops.sigmoid(self.beta * units)


def test_an_activation_may_change(rng):
    activation = Swish(1.0)
    layer = built(rng, ratio_activation=activation)
    x = images(rng, SHAPE)
    before = numpy(step([layer])(x)[0])
    activation.beta = 5.0
    assert np.abs(numpy(step([layer])(x)[0]) - before).max() > 1e-4
