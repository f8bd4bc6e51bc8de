"""The functions that `compiled.py` compiles, of one layer and of whole networks."""

from functools import partial

import jax
import keras
from compiled_rows import BY_TENSORFLOW
from layer_speed import LAYERS
from model_speed import NORMS

from keras_en.models import CifarResNet, ResNet50

LAYER_NORMS = {
    "BN": "BatchNormalization",
    "SN": "SN",
    "EN": "EN",
    "EN as printed": "EN as printed",
}
NETWORKS = {
    "ResNet-20": (partial(CifarResNet, 20), (128, 32, 32, 3)),
    "ResNet-50": (ResNet50, (64, 224, 224, 3)),
}


def set_policy(dtype):
    keras.config.set_dtype_policy(dtype if dtype == "float32" else f"mixed_{dtype}")


def shapes_of(values, sharding=None):
    """The same tree, of shapes on another device."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), values
    )


def _layer(norm, shape, dtype):
    set_policy(dtype)
    layer = LAYERS[LAYER_NORMS[norm]]()
    layer.build(shape)
    return layer


def _weights(layer):
    return [
        [v.value for v in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    ]


def layer_program(norm, shape, dtype, job, shardings):
    """A function to jit and its arguments; `shardings` of the batch and of weights.

    `job` is "inference", "training" (y, dx, the gradients of all weights and the new
    state) or "training in a network": the same where dy depends on y, as it does there,
    so that no kernel can write y and read dy.
    """
    batch, replicated = shardings
    layer = _layer(norm, shape, dtype)
    if job in BY_TENSORFLOW:
        import compiled_tensorflow

        return compiled_tensorflow.layer_program(layer, shape, dtype, job, shardings)
    weights = shapes_of(_weights(layer), replicated)
    x = jax.ShapeDtypeStruct(shape, dtype, sharding=batch)
    call = layer.stateless_call

    def inference(trainable, state, x):
        return call(trainable, state, x, training=False)[0]

    def training(trainable, state, x, dy):
        y, back, new = jax.vjp(
            lambda t, x: call(t, state, x, training=True), trainable, x, has_aux=True
        )
        if job == "training in a network":
            dy, y = jax.lax.optimization_barrier((dy, y))
        return y, back(dy), new

    if job == "inference":
        return inference, (*weights, x)
    return training, (*weights, x, x)


def residuals(norm, shape, dtype):
    """Bytes that a layer's forward pass hands to its backward pass."""
    layer = _layer(norm, shape, dtype)
    call = layer.stateless_call

    def forward(trainable, state, x):
        function = lambda t, x: call(t, state, x, training=True)  # noqa: E731
        return jax.vjp(function, trainable, x, has_aux=True)[1]

    x = jax.ShapeDtypeStruct(shape, dtype)
    values = jax.tree.leaves(jax.eval_shape(forward, *_weights(layer), x))
    return sum(value.size * value.dtype.itemsize for value in values)


def network_program(network, norm, dtype, job, shardings):
    """A function to jit and its arguments: inference, or a step of SGD."""
    set_policy(dtype)
    batch, replicated = shardings
    build, shape = NETWORKS[network]
    model = build(norm=NORMS[norm], classifier_activation=None)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    cost = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainable, state = shapes_of(_weights(model), replicated)
    slots = shapes_of([v.value for v in optimizer.variables], replicated)
    x = jax.ShapeDtypeStruct(shape, "float32", sharding=batch)
    y = jax.ShapeDtypeStruct(shape[:1], "int32", sharding=batch)

    def loss(trainable, state, x, y):
        logits, state = model.stateless_call(trainable, state, x, training=True)
        return cost(y, logits), state

    def training(trainable, state, slots, x, y):
        step = jax.value_and_grad(loss, has_aux=True)
        (value, state), slopes = step(trainable, state, x, y)
        trainable, slots = optimizer.stateless_apply(slots, slopes, trainable)
        return value, trainable, state, slots

    def inference(trainable, state, x):
        return model.stateless_call(trainable, state, x, training=False)[0]

    if job == "inference":
        return inference, (trainable, state, x)
    return training, (trainable, state, slots, x, y)
