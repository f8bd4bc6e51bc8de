"""What a layer becomes: nodes of the exported graph, residuals, other platforms."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends
from tests.backends import images, numpy, randomize

SHAPE = (4, 8, 8, 16)


@pytest.mark.parametrize("mode", backends.MODES)
def test_a_compiled_layer_by_hand(mode):
    """`y = x a + b`: the moving statistics start at 0 and 1, so `a` is 1, `b` is 0."""
    x = np.reshape([0.0, 1.0, 2.0, 3.0], (1, 2, 2)).astype("float32")
    layer = ExemplarNormalization(normalizers=["batch"], epsilon=1e-7)
    layer.build(x.shape)
    step = backends.step(layer, x, cotangent=2 * np.ones_like(x), mode=mode)
    np.testing.assert_allclose(step.outputs, x, atol=1e-5)
    np.testing.assert_allclose(step.dx, 2 * np.ones_like(x), atol=1e-5)


@pytest.mark.tensorflow
def test_nodes_of_a_layer_in_an_exported_graph(rng, tmp_path):
    """In ONNX at most 70, with whatever depends on weights only folded."""
    import onnx
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    from keras_en import export

    inputs = keras.Input((8, 8, 16))
    layer = ExemplarNormalization()
    model = keras.Model(inputs, layer(inputs))
    randomize(layer, rng)  # zeros would be folded
    run = tf.function(lambda x: model(x, training=False))
    spec = tf.TensorSpec((None, 8, 8, 16))
    frozen = convert_variables_to_constants_v2(run.get_concrete_function(spec))
    kinds = [node.op for node in frozen.graph.as_graph_def().node]
    assert "IdentityN" not in kinds, "a custom gradient is left"

    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert len(onnx.load(str(path)).graph.node) <= 70


@pytest.mark.skipif(backends.BACKEND != "jax", reason="jax.export is JAX's")
def test_the_training_step_lowers_for_a_tpu(rng):
    import jax
    import jax.export

    layer = ExemplarNormalization(dtype="mixed_bfloat16")
    layer.build(SHAPE)

    def step(trainable, state, x, dy):
        def forward(trainable, x):
            return layer.stateless_call(trainable, state, x, training=True)

        y, back, state = jax.vjp(forward, trainable, x, has_aux=True)
        return y, back(dy), state

    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]
    x = jax.numpy.asarray(images(rng, SHAPE), "bfloat16")
    lowered = jax.export.export(jax.jit(step), platforms=["tpu"])(
        trainable, state, x, x
    )
    assert lowered.platforms == ("tpu",)
    assert "custom_call" not in lowered.mlir_module(), "nothing that a TPU may lack"


@pytest.mark.skipif(backends.BACKEND != "jax", reason="JAX shows its residuals")
def test_the_residuals_are_x_and_little_else(rng):
    """Values of x's size that the forward pass hands to the backward pass."""
    import jax

    def residuals(layer):
        layer.build(SHAPE)
        trainable = [v.value for v in layer.trainable_variables]
        state = [v.value for v in layer.non_trainable_variables]

        def forward(trainable, x):
            return layer.stateless_call(trainable, state, x, training=True)[0]

        x = jax.numpy.asarray(images(rng, SHAPE))
        _, back = jax.vjp(forward, trainable, x)
        # An array that is there twice is one array.
        arrays = {id(leaf): leaf for leaf in jax.tree_util.tree_leaves(back)}
        sizes = [leaf.size for leaf in arrays.values() if hasattr(leaf, "size")]
        return sum(size == np.prod(SHAPE) for size in sizes)

    assert residuals(ExemplarNormalization()) == 1
    assert residuals(ExemplarNormalization()) <= residuals(
        keras.layers.BatchNormalization()
    )


@pytest.mark.tensorflow
def test_forward_mode_in_the_graph_of_a_function(rng):
    """A direction is the difference of two steps along it."""
    import tensorflow as tf

    layer = ExemplarNormalization(dtype="float64", groups=1)
    x, dx = (tf.constant(images(rng, (3, 4, 4, 2), "float64")) for _ in range(2))
    layer.build(x.shape)

    @tf.function(autograph=False)
    def along(x, dx):
        with tf.autodiff.ForwardAccumulator(x, dx) as forward:
            y = layer(x, training=True)
        return forward.jvp(y)

    ends = (numpy(layer(x + h * dx, training=True)) for h in (1e-6, -1e-6))
    expected = np.subtract(*ends) / 2e-6
    np.testing.assert_allclose(numpy(along(x, dx)), expected, atol=1e-6)
