"""Per-sample moments and their merges to layer, group and batch statistics.

One reading of the input gives the instance statistics `m[n, c]` and `v[n, c]`.
Every other statistic follows from these small tensors by the law of total
variance, `var = mean(v) + mean((m - mu)^2)`, which adds what is not negative and
so cannot cancel, unlike `E[x^2] - E[x]^2`.

Symbols: `N` samples, `C` channels, `S` positions (the product of the spatial
axes). All variances are biased. Pure functions of `keras.ops`; the caller passes
float32 or wider.

Source: Sec. 3.1 and 3.3 of Zhang et al. 2020 for the statistics.
"""

from typing import Any, NamedTuple

from keras import ops

from keras_en.ops import rows
from keras_en.ops.gradients import with_backward
from keras_en.ops.spatial import Spatial

NORMALIZERS = ("instance", "layer", "group", "batch")


class Moments(NamedTuple):
    """Instance statistics of each sample, or their merges.

    - `mean`: `(N, C)`.
    - `variance`: `(N, C)`, biased, not negative.
    - `count`: the number of positions behind them. An integer where every sample
      has as many, `S`, and `N` and `S` are fixed and not 0; otherwise `(N, 1)`: with
      a mask the number of its `True`, `(N, C)` where channels are masked each on its
      own. Where that is 0, mean and variance are 0.
    """

    mean: Any
    variance: Any
    count: Any


class Statistics(NamedTuple):
    """What the statistics of every normalizer follow from.

    - `mean`, `variance`: of each sample, `(N, C)`.
    - `batch_mean`, `batch_variance`: `(C,)` or `(1, C)`; `None` without "batch".
    """

    mean: Any
    variance: Any
    batch_mean: Any = None
    batch_variance: Any = None


def per_sample(x, axis, mask=None, training=False, source=None):
    """Instance moments `m[n, c]`, `v[n, c]` over the spatial axes.

    Args:
        x: Float tensor `(N, spatial..., C)` of rank 2 to 5, its channels on `axis`.
        axis: Positive integer.
        mask: `None` or a tensor of the shape of `x` without its last axis, or one
            that broadcasts to it. Positions where it is `False` count nowhere.
        training: If `True`, the residuals are `x` and the moments, nothing of the size
            of `x` beside it. Otherwise the operations are plain, for exporters.
        source: What `x` was cast from; `None`: `x`.

    Returns:
        `Moments`.
    """
    layout = Spatial.of(x, axis, mask)
    count, samples = layout.count, ops.shape(x)[0]
    fixed = all(isinstance(n, int) and n for n in (count, samples))
    # Tensors of fixed values would be dozens of nodes a layer.
    if mask is None and not fixed:
        count = ops.ones((samples, 1), dtype=x.dtype) * count
    if not layout.axes:
        x = layout.masked(x)
        return Moments(x, ops.zeros_like(x), count)
    part = layout.part(x if source is None else source)
    if not training:
        return Moments(*layout.moments(layout.masked(x), part), count)
    (pair,) = with_backward(_forward, _backward, (x,), (layout, part))
    return Moments(pair[:, 0], pair[:, 1], count)


def _forward(constants, inputs):
    """Mean and variance of each sample, `(N, 2, C)`.

    One tensor, not two: with two, a training step under TensorFlow's XLA for a CPU
    took 3 times as long. Presumably it fuses the few operations behind each into
    the loop over `x` that reads them; the compiled program was not read.
    """
    layout, part = constants
    mean, variance = layout.moments(layout.masked(*inputs), part)
    return (ops.stack([mean, variance], axis=1),), mean


def _backward(constants, inputs, mean, upstream):
    """`dm/dx = 1 / S`, `dv/dx = 2 (x - m) / S`."""
    layout, _ = constants
    (x,), (upstream,) = inputs, upstream
    offset, slope = upstream[:, 0], 2 * upstream[:, 1]
    offset, slope = offset / layout.positions, slope / layout.positions
    # As exact as the output, x * a + b, and a reading of x less than (x - m) * slope.
    dx = x * layout.broad(slope) + layout.broad(offset - mean * slope)
    return (layout.masked(dx),)


def over_channels(mean, variance, groups=1, count=None):
    """Layer (`groups=1`) or group statistics from instance moments.

    `mu = mean_c m`, `var = mean_c v + mean_c (m - mu)^2`, inside each of `groups`
    runs of consecutive channels.

    Args:
        mean, variance: `(N, C)`.
        groups: Integer that divides `C`.
        count: `(N, C)`, by which the means are weighted; `None`: all alike.

    Returns:
        Mean and variance, each `(N, C)`, equal inside a group, or `(N, 1)` for one
        group.
    """
    weight = _channel_weight(count, groups)
    mu = _channel_average(weight * mean, groups)
    spread = weight * (variance + ops.square(mean - mu))
    return mu, _channel_average(spread, groups)


def over_channels_backward(deviation, by_mean, by_variance, groups=1, count=None):
    """The gradients by instance mean and variance, given those by what `over_channels`
    makes of them.

    `dm = A(dmu) + 2 (m - mu) A(dvar)`, `dv = A(dvar)`, with `A` the average inside
    each group.

    Args:
        deviation: `m - mu`, `(N, C)`.
        by_mean, by_variance: Gradients by mean and variance of the group, as every
            channel of it adds to them, `(N, C)`.
        groups, count: As there.

    Returns:
        Two tensors, `(N, C)`; the second is `(N, 1)` for one group without `count`.
    """
    weight = _channel_weight(count, groups)
    spread = _channel_average(by_variance, groups)
    by_mean = _channel_average(by_mean, groups) + deviation * (2 * spread)
    return weight * by_mean, weight * spread


def _channel_weight(count, groups):
    """How much of its group's average each channel is: 1 on average, `(N, C)`; 0 where
    nothing of the group counts. The number 1 without `count`."""
    if count is None:
        return 1
    # At least 1 position counts wherever any does.
    smallest = groups / count.shape[1]
    return count / ops.maximum(_channel_average(count, groups), smallest)


def _channel_average(values, groups):
    """`(N, C)` to its averages inside each group: `(N, 1)` for one group, otherwise
    `(N, C)`."""
    channels = values.shape[1]
    size = channels // groups
    if groups == 1:
        # A product: TensorFlow derives a quotient by its constant divisor, too.
        return ops.sum(values, axis=1, keepdims=True) * (1 / size)
    split = ops.reshape(values, (-1, groups, size))
    average = ops.sum(split, axis=2, keepdims=True) * (1 / size)
    return ops.reshape(ops.repeat(average, size, axis=2), (-1, channels))


def over_batch(mean, variance, count):
    """Merges rows of moments, weighted by their counts.

    `mu = sum_n c_n m_n / c`, `var = sum_n c_n (v_n + (m_n - mu)^2) / c`, with
    `c = sum_n c_n`. Rows are samples.

    Args:
        mean, variance: `(N, C)`.
        count: `(N, 1)`, `(N, C)`, or an integer if all rows have as many. Rows with
            0 do not count.

    Returns:
        Mean `(1, C)`, variance `(1, C)`, count `(1, 1)` or `(1, C)`: 0, 0, 0 when no
        row counts.
        An integer `count` gives an integer.
    """
    if isinstance(count, int):
        total, share = mean.shape[0] * count, 1 / mean.shape[0]
    else:
        total = rows.total(count, keepdims=True)
        share = count / ops.maximum(total, 1)

    merged = with_backward(_merged, _merged_backward, (mean, variance), (share,))
    return Moments(*merged, total)


def _merged(constants, inputs):
    (share,), (mean, variance) = constants, inputs
    mu = rows.total(mean, share, keepdims=True)
    deviation = mean - mu
    spread = variance + ops.square(deviation)
    spread = rows.total(spread, share, keepdims=True)
    return (mu, spread), deviation


def _merged_backward(constants, inputs, deviation, upstream):
    (share,), (by_mean, by_variance) = constants, upstream
    by_mean = share * (by_mean + 2 * deviation * by_variance)
    return by_mean, ops.broadcast_to(share * by_variance, ops.shape(deviation))


def moved(moving, batch, momentum):
    """Moving mean and variance after a batch: `old * momentum + new * (1 - momentum)`.

    Args:
        moving: Moving mean and variance, each `(C,)`.
        batch: `Moments` of the batch, as from `over_batch`. A count of 0 leaves
            `moving` as it was.
        momentum: Float in [0, 1].
    """

    def updated(old, new):
        result = old * momentum + ops.reshape(new, old.shape) * (1.0 - momentum)
        if isinstance(batch.count, int):
            return result
        return ops.where(ops.reshape(batch.count, (-1,)) > 0, result, old)

    return tuple(map(updated, moving, batch[:2]))


def statistics_of(name, statistics, groups, count=None):
    """Mean and variance of the normalizer `name`, in shapes that broadcast to
    `(N, C)`: what depends on weights only is not repeated for every sample.

    Args:
        name: One of `NORMALIZERS`.
        statistics: `Statistics`.
        groups: Number of groups for "group".
        count: `(N, C)` where a mask tells channels apart, otherwise `None`.
    """
    if name == "batch":
        return statistics.batch_mean, statistics.batch_variance
    if name == "instance":
        return statistics.mean, statistics.variance
    groups = groups if name == "group" else 1
    return over_channels(statistics.mean, statistics.variance, groups, count)
