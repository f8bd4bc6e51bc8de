"""The same layers as TensorFlow writes them, for `compiled.py`.

`jax2tf.call_tf` takes a function's HLO (`experimental_get_compiler_ir`) into a program
of JAX, whose compilers do the rest.
"""

import jax
import keras
import tensorflow as tf
from jax.experimental import jax2tf


def layer_program(layer, shape, dtype, job, shardings):
    """A function to jit and its arguments, as in `programs.py`."""
    count = len(layer.trainable_variables)
    ordered = [*layer.trainable_variables, *layer.non_trainable_variables]

    def scope(values):
        return keras.StatelessScope(list(zip(ordered, values, strict=True)))

    @tf.function(jit_compile=True, autograph=False)
    def inference(x, *values):
        with scope(values):
            return layer(x, training=False)

    @tf.function(jit_compile=True, autograph=False)
    def training(x, dy, *values):
        sources = [x, *values[:count]]
        with scope(values) as state, tf.GradientTape() as tape:
            tape.watch(sources)
            y = layer(x, training=True)
        slopes = tape.gradient(y, sources, output_gradients=dy)
        new = [state.get_current_value(v) for v in layer.non_trainable_variables]
        return y, slopes, new

    batch, replicated = shardings
    weights = [
        jax.ShapeDtypeStruct(tuple(v.shape), v.dtype, sharding=replicated)
        for v in ordered
    ]
    x = jax.ShapeDtypeStruct(shape, dtype, sharding=batch)
    is_inference = job.startswith("inference")
    function = jax2tf.call_tf(
        inference if is_inference else training, has_side_effects=False
    )
    return function, (x, *weights) if is_inference else (x, x, *weights)
