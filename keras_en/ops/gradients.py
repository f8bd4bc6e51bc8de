"""Functions with derivatives of their own."""

import keras
from keras import ops


def differentiable(forward, training, constants=()):
    """`forward` as a function of tensors, with the derivative that it returns.

    Args:
        forward: Function of `constants` and tensors, in this order, to
            `(value, grad)`; `grad` maps the derivative by `value` to those by every
            tensor. It may close over intermediate values if these, as functions of
            the tensors, need no derivative of their own: then second derivatives are
            right too.
        training: If `False`, the operations are plain: on TensorFlow a custom
            gradient leaves nodes in an exported graph. They are on torch too, where
            a custom gradient of Keras has wrong second derivatives.
        constants: What needs no derivative, tensors or not. `forward` must not close
            over a tensor from outside: in second derivatives TensorFlow would not
            find it if it is in another `tf.function`, and JAX refuses it.

    Returns:
        Function from the tensors to `value`.
    """
    backend = keras.backend.backend()
    if not training or backend == "torch":
        return lambda *tensors: forward(*constants, *tensors)[0]
    held = {i: c for i, c in enumerate(constants) if _held(c)}

    def single(*tensors):
        known = dict(zip(held, tensors, strict=False))
        tensors = tensors[len(held) :]
        value, grad = forward(
            *(known.get(i, c) for i, c in enumerate(constants)), *tensors
        )

        def by_upstream(*given, upstream=None):
            # TensorFlow hands over several derivatives one by one, JAX as a tuple.
            given = given if upstream is None else (upstream,)
            found = grad(given if len(given) > 1 else given[0])
            found = list(found) if _many(found) else [found]
            zero = ops.zeros_like if backend == "jax" else lambda constant: None
            return [zero(c) for c in known.values()] + found

        return value, by_upstream

    function = ops.custom_gradient(single)

    def call(*tensors):
        tensors = (*held.values(), *tensors)
        return function(*(_local(t) for t in tensors))

    return call


def with_derivative(function, derivative, training=True, constants=()):
    """`function` as a function of tensors, with `derivative` instead of the one that
    the backend would find operation by operation.

    Args:
        function: Function of `constants` and tensors to `(values, kept)`: a tuple of at
            least two tensors, and whatever `derivative` wants to use again.
        derivative: Function of `constants`, `kept`, the tensors, and the derivatives by
            `values`, to those by every tensor, a list.
        training, constants: See `differentiable`.

    Returns:
        Function from the tensors to `values`. Second derivatives are those of
        `derivative`, found by the backend, which computes `kept` again for them.
    """
    fixed = len(constants)

    def forward(*given):
        constants, tensors = given[:fixed], given[fixed:]
        count = len(tensors)
        values, kept = function(*given)

        def grad(upstream):
            leaves = keras.tree.flatten(kept)
            held = (*constants, *leaves)

            def first(*given):
                both = given[len(held) :]
                constants, leaves = given[:fixed], given[fixed : len(held)]
                kept_here = keras.tree.pack_sequence_as(kept, leaves)

                def by_hand(kept, *both):
                    return derivative(*constants, kept, both[:count], both[count:])

                def again(*both):
                    return by_hand(function(*constants, *both[:count])[1], *both)

                found = by_hand(kept_here, *both)
                return found, lambda slopes: vjp(again, both, slopes)

            return differentiable(first, training, held)(*tensors, *upstream)

        return values, grad

    return differentiable(forward, training, constants)


def vjp(function, tensors, upstream):
    """The derivatives of `sum(function(*tensors) * upstream)` by every tensor.

    Args:
        function: Function from tensors to a tensor, or to a list of them.
        tensors: List or tuple.
        upstream: As what `function` returns.

    Returns:
        List, in the order of `tensors`.
    """
    if keras.backend.backend() == "jax":
        import jax

        values, back = jax.vjp(function, *tensors)
        return list(back(type(values)(upstream) if _many(values) else upstream))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        values = function(*tensors)
    return tape.gradient(
        values,
        list(tensors),
        output_gradients=list(upstream) if _many(values) else upstream,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def _held(constant):
    """Whether a function with its own derivative must take it as an argument."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.is_tensor(constant)
    # JAX minds only what may depend on what is being differentiated; a mask does not.
    return ops.is_tensor(constant) and keras.backend.is_float_dtype(constant.dtype)


def _local(tensor):
    """In TensorFlow's graph of a function, one of an outer graph is found by its name
    only as long as that graph is being traced."""
    if keras.backend.backend() != "tensorflow":
        return tensor
    import tensorflow as tf

    outer = getattr(tensor, "graph", None)
    if tf.executing_eagerly() or outer is tf.compat.v1.get_default_graph():
        return tensor
    return tf.identity(tensor)


def _many(values):
    return isinstance(values, list | tuple)
