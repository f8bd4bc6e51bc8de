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
            over a tensor from outside: in the second derivatives of a `tf.function`
            TensorFlow could not find it.

    Returns:
        Function from the tensors to `value`.
    """
    backend = keras.backend.backend()
    if not training or backend == "torch":
        return lambda *tensors: forward(*constants, *tensors)[0]
    held = {}
    if backend == "tensorflow":
        import tensorflow as tf

        held = {i: c for i, c in enumerate(constants) if tf.is_tensor(c)}

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
            return [None] * len(held) + found

        return value, by_upstream

    function = ops.custom_gradient(single)

    def call(*tensors):
        tensors = (*held.values(), *tensors)
        if backend == "tensorflow" and not tf.executing_eagerly():
            # One of an outer graph would be such a tensor from outside.
            graph = tf.compat.v1.get_default_graph()
            tensors = [
                t if getattr(t, "graph", None) is graph else tf.identity(t)
                for t in tensors
            ]
        return function(*tensors)

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
            def first(*given):
                constants, both = given[:fixed], given[fixed:]

                def by_hand(kept, *both):
                    return derivative(*constants, kept, both[:count], both[count:])

                def again(*both):
                    return by_hand(function(*constants, *both[:count])[1], *both)

                return by_hand(kept, *both), lambda slopes: vjp(again, both, slopes)

            return differentiable(first, training, constants)(*tensors, *upstream)

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


def _many(values):
    return isinstance(values, list | tuple)
