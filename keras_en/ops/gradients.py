"""Functions with a backward pass of their own.

A function has constants, which need no gradient, and inputs: two structures of tensors
(tuples, named tuples), in which `None` stands for a tensor that is absent.
"""

import keras
from keras import ops

from keras_en.ops import tracing


def with_backward(forward, backward, inputs, constants=()):
    """The outputs of a forward pass whose backward pass is written by hand, instead of
    being derived operation by operation.

    Args:
        forward: Function of `constants` and `inputs` to `(outputs, residuals)`: a tuple
            of tensors, and a structure of what the backward pass uses again.
        backward: Function of `constants`, `inputs`, `residuals` and `upstream`, the
            gradients by the outputs, to those by the inputs, in their structure.
        inputs: Structure of tensors.
        constants: Structure of anything. `forward` and `backward` must not close over a
            tensor from outside: in second derivatives TensorFlow would not find it if
            it is in another `tf.function`, and JAX refuses it. It has to be a constant.

    Returns:
        The outputs. Second derivatives are those of `backward`, derived by the backend,
        for which the residuals are computed again. On JAX forward mode has them, too:
        `backward` must be linear in `upstream` in the eyes of
        `jax.linear_transpose`. On torch, where a custom gradient of Keras has wrong
        second derivatives, all are the backend's.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        return forward(constants, inputs)[0]
    structure = constants, inputs
    leaves = keras.tree.flatten(structure)
    places = [i for i, leaf in enumerate(leaves) if ops.is_tensor(leaf)]

    def restored(arguments):
        local = dict(zip(places, arguments, strict=True))
        return keras.tree.pack_sequence_as(
            structure, [local.get(i, leaf) for i, leaf in enumerate(leaves)]
        )

    make = _jax if backend == "jax" else _tensorflow
    arguments = [leaves[i] for i in places]
    return make(forward, backward, restored, arguments)


def _jax(forward, backward, restored, arguments):
    """`with_backward` of `arguments`, of which `restored` makes constants and inputs.

    What forward mode computes is the transpose of `backward`, and what reverse mode
    computes the transpose of that: operation by operation `backward` again.
    """
    import jax

    @jax.custom_jvp
    def function(*primals):
        return forward(*restored(primals))[0]

    @function.defjvp
    def _(primals, tangents):
        constants, inputs = restored(primals)
        outputs, residuals = forward(constants, inputs)

        def pulled_back(upstream):
            return tensors_of(backward(constants, inputs, residuals, upstream))

        (pushed,) = jax.linear_transpose(pulled_back, outputs)(
            # Those of the inputs are the last.
            list(tangents[len(tangents) - len(tensors_of(inputs)) :])
        )
        return outputs, pushed

    return function(*arguments)


def _tensorflow(forward, backward, restored, arguments):
    """As `_jax`, without forward mode."""

    def flat(*arguments):
        constants, inputs = restored(arguments)
        outputs, residuals = forward(constants, inputs)

        def gradient(*upstream):
            step, fixed = (inputs, upstream), (constants, residuals)
            gradients = with_backward(backward_pass, derived, step, fixed)
            return [*[None] * (len(arguments) - len(gradients)), *gradients]

        return outputs, gradient

    def backward_pass(fixed, step):
        (constants, residuals), (inputs, upstream) = fixed, step
        return tuple(tensors_of(backward(constants, inputs, residuals, upstream))), ()

    def derived(fixed, step, _, upstream):
        constants, _ = fixed

        def recomputed(*tensors):
            inputs, upstream = packed(step, tensors)
            _, residuals = forward(constants, inputs)
            return backward_pass((constants, residuals), (inputs, upstream))[0]

        return packed(step, vjp(recomputed, tensors_of(step), upstream))

    return ops.custom_gradient(flat)(*map(tracing.in_this_graph, arguments))


def vjp(function, tensors, upstream):
    """The gradients of `sum(function(*tensors) * upstream)` by every tensor.

    Args:
        function: Function from tensors to a tensor, or to a tuple of them.
        tensors: List of tensors.
        upstream: As what `function` returns.

    Returns:
        List, in the order of `tensors`.
    """
    if keras.backend.backend() == "jax":
        import jax

        return list(jax.vjp(function, *tensors)[1](upstream))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        values = function(*tensors)
    return tape.gradient(
        values,
        tensors,
        output_gradients=upstream,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def tensors_of(structure):
    """Those of a structure, in order."""
    return [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]


def packed(structure, tensors):
    """`tensors` in the places of those of a structure."""
    tensors = iter(tensors)
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else next(tensors), structure
    )
