"""Functions with derivatives of their own."""

import keras
from keras import ops


def differentiable(forward, training):
    """`forward` as a function of tensors, with the derivative that it returns.

    Args:
        forward: Function from tensors to `(value, grad)`; `grad` maps the derivative
            by `value` to those by every argument. It may close over intermediate
            values if these, as functions of the arguments, need no derivative of
            their own: then second derivatives are right too.
        training: If `False`, the operations are plain: on TensorFlow a custom
            gradient leaves nodes in an exported graph. They are on torch too, where
            a custom gradient of Keras has wrong second derivatives.

    Returns:
        Function from the same tensors to `value`.
    """
    if not training or keras.backend.backend() == "torch":
        return lambda *tensors: forward(*tensors)[0]

    def single(*tensors):
        value, grad = forward(*tensors)

        def by_upstream(*given, upstream=None):
            # TensorFlow hands over several derivatives one by one, JAX as a tuple.
            given = given if upstream is None else (upstream,)
            return grad(given if len(given) > 1 else given[0])

        return value, by_upstream

    return ops.custom_gradient(single)


def with_derivative(function, derivative, training=True):
    """`function` as a function of tensors, with `derivative` instead of the one that
    the backend would find operation by operation.

    Args:
        function: Function from tensors to `(values, kept)`: a tuple of at least two
            tensors, and whatever `derivative` wants to use again.
        derivative: Function of `kept`, the tensors, and the derivatives by `values`
            to those by every tensor, a list.
        training: See `differentiable`.

    Returns:
        Function from the same tensors to `values`. Second derivatives are those of
        `derivative`, found by the backend, which computes `kept` again for them.
    """

    def forward(*tensors):
        values, kept = function(*tensors)
        count = len(tensors)

        def grad(upstream):
            def first(*both):
                def second(slopes):
                    def again(*both):
                        _, kept = function(*both[:count])
                        return derivative(kept, both[:count], both[count:])

                    return vjp(again, both, slopes)

                return derivative(kept, both[:count], both[count:]), second

            return differentiable(first, training)(*tensors, *upstream)

        return values, grad

    return differentiable(forward, training)


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
