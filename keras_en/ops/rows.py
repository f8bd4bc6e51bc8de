"""Sums over the rows of a batch, as exact for millions of rows as for a hundred.

On a CPU both TensorFlow and XLA add rows one by one. In float32 that is off by 2 to
5 % for 20 million rows, and stops at 2^24 where every row adds 1.
"""

import keras
from keras import ops

from keras_en.ops import tracing

# Rows that may be added one by one.
_SHORT = 2048
# Rows of a chunk. Few, so that there are many chunks, which devices can share.
_CHUNK = 64


def total(values, weight=None, keepdims=False):
    """`sum_n weight[n] values[n]` of a tensor `(N, ...)`.

    More than a few rows are added in float64 on TensorFlow, and by chunks on JAX, which
    has no float64 unless it is asked for. Other devices and torch add in pairs.

    Args:
        values: Float tensor.
        weight: A number for all rows, or a tensor that broadcasts to `values`; `None`
            for 1.
        keepdims: Whether the result is `(1, ...)`.
    """
    n, backend = values.shape[0], keras.backend.backend()
    many = not isinstance(n, int) or n > _SHORT
    if many and backend == "tensorflow" and tracing.is_on_cpu():
        return _in_float64(values, weight, keepdims)
    if weight is not None:
        values = values * weight
    if many and backend == "jax" and isinstance(n, int):
        return _by_chunks(values, keepdims)
    return ops.sum(values, axis=0, keepdims=keepdims)


def _in_float64(values, weight, keepdims):
    tensor = ops.is_tensor(weight)
    exact = ops.cast(values * weight if tensor else values, "float64")
    result = ops.sum(exact, axis=0, keepdims=keepdims)
    if weight is not None and not tensor:
        # Of one row, not of all. The sum may be beyond float32, its share is not.
        result = result * weight
    return ops.cast(result, values.dtype)


def _by_chunks(values, keepdims):
    n = values.shape[0]
    whole = n - n % _CHUNK
    chunks = ops.reshape(values[:whole], (-1, _CHUNK, *values.shape[1:]))
    result = total(ops.sum(chunks, axis=1), keepdims=keepdims)
    if whole < n:
        result = result + ops.sum(values[whole:], axis=0, keepdims=keepdims)
    return result
