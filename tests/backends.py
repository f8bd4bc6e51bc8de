"""One call for outputs, ratios and gradients, whatever the backend and mode."""

from typing import NamedTuple

import keras
import numpy as np

BACKEND = keras.backend.backend()
# How a step can run: the first of each backend is op by op.
MODES = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "jit"),
    "torch": ("eager",),
}[BACKEND]


def images(rng, shape=(4, 5, 6, 8), dtype="float32"):
    return rng.normal(0.3, 1.2, shape).astype(dtype)


def numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


class Step(NamedTuple):
    outputs: np.ndarray
    ratios: np.ndarray
    dx: np.ndarray
    gradients: dict  # of every trainable weight, by name
    state: dict  # every non-trainable weight after the call, by name


def step(layer, x, cotangent, training=False, mask=None, mode="eager"):
    """Calls `layer` and differentiates `sum(outputs * cotangent)`.

    Assigns the moving statistics, as a training step does.
    """
    run = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[BACKEND]
    outputs, ratios, dx, gradients = run(layer, x, cotangent, training, mask, mode)
    named = zip(layer.trainable_variables, gradients, strict=True)
    return Step(
        numpy(outputs),
        numpy(ratios),
        numpy(dx),
        {variable.name: numpy(gradient) for variable, gradient in named},
        {v.name: numpy(v.value) for v in layer.non_trainable_variables},
    )


def _tensorflow(layer, x, cotangent, training, mask, mode):
    import tensorflow as tf

    def run(x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, ratios = layer(x, training=training, mask=mask, return_ratios=True)
            loss = tf.reduce_sum(outputs * cotangent)
        variables = [v.value for v in layer.trainable_variables]
        dx, *gradients = tape.gradient(loss, [x, *variables])
        return outputs, ratios, dx, gradients

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla")
    x = tf.constant(x)
    return run(x, tf.cast(cotangent, layer.compute_dtype))


def _jax(layer, x, cotangent, training, mask, mode):
    import jax

    def loss(trainable, x, state):
        (outputs, ratios), state = layer.stateless_call(
            trainable, state, x, training=training, mask=mask, return_ratios=True
        )
        return (outputs * cotangent.astype(outputs.dtype)).sum(), (
            outputs,
            ratios,
            state,
        )

    run = jax.grad(loss, argnums=(0, 1), has_aux=True)
    if mode == "jit":
        run = jax.jit(run)
    (gradients, dx), (outputs, ratios, state) = run(
        [v.value for v in layer.trainable_variables],
        jax.numpy.asarray(x),
        [v.value for v in layer.non_trainable_variables],
    )
    for variable, value in zip(layer.non_trainable_variables, state, strict=True):
        variable.assign(value)
    return outputs, ratios, dx, gradients


def _torch(layer, x, cotangent, training, mask, mode):
    import torch

    x = torch.tensor(x, requires_grad=True)
    mask = None if mask is None else torch.tensor(mask)
    outputs, ratios = layer(x, training=training, mask=mask, return_ratios=True)
    loss = (outputs * torch.tensor(cotangent).to(outputs.dtype)).sum()
    variables = [v.value for v in layer.trainable_variables]
    dx, *gradients = torch.autograd.grad(loss, [x, *variables], materialize_grads=True)
    return outputs, ratios, dx, gradients


def randomize(layer, rng):
    """Gives every weight a value far from its initial one; returns them by name.

    Those of the ratio head stay small enough for its tanh not to saturate: there
    float32 computes the derivative, 1 - tanh^2, from two equal numbers.
    """
    for variable in layer.variables:
        value = rng.normal(size=variable.shape)
        if variable.name.startswith("ratio"):
            value = 0.3 * value
        if variable.name == "moving_variance":
            value = np.exp(value)
        variable.assign(value.astype(keras.backend.standardize_dtype(variable.dtype)))
    return {
        v.name: np.asarray(keras.ops.convert_to_numpy(v.value), "float64")
        for v in layer.variables
    }
