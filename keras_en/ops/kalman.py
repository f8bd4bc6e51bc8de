"""Batch Kalman Normalization: moments of micro-batches, fused with predictions.

Symbols: `N` samples in `S` micro-batches of `N / S` consecutive ones, `C` channels.

Source: the released code of Wang et al. 2018, https://arxiv.org/abs/1802.03133, by its
behaviour.
"""

import keras
from keras import ops

from keras_en.ops import moments

# Predicted variances that are, on average, as many times the own ones are not believed.
LIMIT = 100.0


def statistics_dtype(x):
    """The dtype of the statistics of `x`: float32, or float64 where `x` has it."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return dtype if dtype == "float64" else "float32"


def micro_batch_moments(x, axis, split):
    """Mean and biased variance of each micro-batch.

    Args:
        x: Float tensor `(N, spatial..., C)` of rank 2 to 5, its channels on `axis`.
        axis: Positive integer.
        split: `S`; divides `N`.

    Returns:
        Two tensors, `(S, C)`.
    """
    channels = x.shape[axis]

    def side_by_side(values):
        rows = ops.reshape(values, (split, -1, channels))
        rows = ops.transpose(rows, (1, 0, 2))  # (N / S, S, C)
        return ops.reshape(rows, (-1, split * channels))

    sample = moments.per_sample(x, axis, training=True)
    mean, variance = map(side_by_side, sample[:2])
    # Every sample has as many positions.
    merged = moments.over_batch(mean, variance, ops.ones_like(mean[:, :1]))
    return tuple(ops.reshape(value, (split, channels)) for value in merged[:2])


def fused(own, prediction, p):
    """Own moments and predicted ones in one.

    `mean = p pm + (1 - p) m`, `var = p pv + (1 - p) v + p (1 - p) (m - pm)^2`, those of
    a mixture of both distributions, in micro-batches where `mean_c(pv / v) < 100`; `m`
    and `v` in the others.

    Args:
        own, prediction: Mean and variance, `(S, C)` each.
        p: Float in [0, 1], the share of the prediction.

    Returns:
        Two tensors, `(S, C)`.
    """
    (m, v), (pm, pv) = own, prediction
    # Not `mean`, which computes float64 in float32 on JAX. 0 / 0 is not below either.
    ratio = ops.sum(pv / v, axis=1, keepdims=True) / v.shape[1]
    believed = ratio < LIMIT
    mean = p * pm + (1 - p) * m
    variance = p * pv + (1 - p) * v + p * (1 - p) * ops.square(m - pm)
    return ops.where(believed, mean, m), ops.where(believed, variance, v)


def folded(own, gamma, beta, epsilon):
    """Scale and shift of `y = gamma (x - mean) / sqrt(var + epsilon) + beta`.

    Args:
        own: Mean and variance, `(S, C)` each.
        gamma, beta: `(C,)`, or `None`.
        epsilon: Positive float.

    Returns:
        Two tensors, `(S, C)`.
    """
    mean, variance = own
    scale = ops.rsqrt(variance + epsilon)
    if gamma is not None:
        scale = scale * gamma
    shift = -mean * scale
    return scale, shift if beta is None else shift + beta


def of_samples(values, samples):
    """`(S, C)` to `(N, C)`: each sample has that of its micro-batch.

    Args:
        samples: `N`, an integer or a tensor.
    """
    split, channels = values.shape
    values = ops.expand_dims(values, 1)
    values = ops.broadcast_to(values, (split, samples // split, channels))
    return ops.reshape(values, (samples, channels))


def rectified_normal(noise, mean, variance, axis):
    """`relu(z sqrt(var) + mean)`, an image for each micro-batch.

    Args:
        noise: `z`, `(S, spatial..., C)`, its channels on `axis`.
        mean, variance: `(S, C)`.
        axis: Positive integer.
    """
    broad = [1] * len(noise.shape)
    broad[0], broad[axis] = mean.shape
    # The root has no derivative at 0.
    positive = variance > 0
    spread = ops.sqrt(ops.where(positive, variance, ops.ones_like(variance)))
    spread = ops.where(positive, spread, ops.zeros_like(spread))
    return ops.relu(noise * ops.reshape(spread, broad) + ops.reshape(mean, broad))
