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
            return grad(given[0] if upstream is None else upstream)

        return value, by_upstream

    return ops.custom_gradient(single)
