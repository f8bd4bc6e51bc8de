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

from typing import NamedTuple

from keras import ops

from keras_en.ops import spatial
from keras_en.ops.gradients import differentiable, with_derivative

NORMALIZERS = ("instance", "layer", "group", "batch")


class Moments(NamedTuple):
    """Instance statistics of each sample.

    - `mean`: `(N, C)`.
    - `variance`: `(N, C)`, biased, not negative.
    - `count`: the number of positions behind them. An integer where every sample
      has as many, `S`, and `N` and `S` are known and not 0; otherwise `(N, 1)`: with
      a mask the number of its `True`. Where that is 0, mean and variance are 0.
    """

    mean: object
    variance: object
    count: object


def per_sample(x, axis, mask=None, training=False):
    """Instance moments `m[n, c]`, `v[n, c]` over the spatial axes.

    Args:
        x: Float tensor `(N, spatial..., C)` of rank 2 to 5, its channels on `axis`.
        axis: Positive integer.
        mask: `None` or a tensor of the shape of `x` without the channel axis, or
            one that broadcasts to it. Positions where it is `False` count nowhere.
        training: If `True`, the backward pass keeps `x` and the moments, nothing of
            the size of `x` beside it. Otherwise the operations are plain, for
            exporters.

    Returns:
        `Moments`.
    """
    layout = spatial.Spatial(x, axis)
    shape = ops.shape(x)
    positions = layout.positions
    if not isinstance(positions, int):
        positions = ops.cast(positions, x.dtype)
    if mask is None:
        count = positions
        # Tensors of known values would be dozens of nodes a layer.
        known = isinstance(count, int) and isinstance(shape[0], int)
        if not (known and count and shape[0]):
            count = ops.ones((shape[0], 1), dtype=x.dtype) * positions
    else:
        mask = ops.cast(mask, "bool")
        mask = ops.broadcast_to(mask, shape[:axis] + shape[axis + 1 :])
        count = ops.reshape(ops.cast(mask, x.dtype), (shape[0], -1))
        count = ops.sum(count, axis=1, keepdims=True)
        positions = ops.maximum(count, 1)
        mask = ops.expand_dims(mask, axis)
    if not layout.axes:
        x = x if mask is None else ops.where(mask, x, 0)
        return Moments(x, ops.zeros_like(x), count)
    constants = layout, positions, mask
    if training:
        pair = differentiable(_pair, training, constants)(x)
        return Moments(pair[:, 0], pair[:, 1], count)
    return Moments(*_Sums(*constants).moments(x), count)


class _Sums:
    """Sums over what a mask leaves of each sample."""

    def __init__(self, layout, count, mask):
        self.layout, self.count, self.mask = layout, count, mask
        self.broad, self.total = layout.broad, layout.total

    def masked(self, values):
        # `where`, not a product: infinity times 0 is NaN.
        return values if self.mask is None else ops.where(self.mask, values, 0)

    def mean(self, x):
        """The mean, exact where float32 sums of many large numbers would drift.

        Sums along one axis and then along the others are short for an image. Where
        they are not, the mean of what is left around the first result is added, which
        costs nothing where the first axis left little. A mask leaves nothing little.
        """
        values = x
        if self.mask is None:
            values = self.layout.partial(x)
            if self.layout.short:
                return self.layout.mean(values)
        shift = self.average(values)
        return shift + self.average(self.masked(values - self.broad(shift)))

    def average(self, values):
        if self.mask is None:
            return self.layout.mean(values)
        return ops.sum(values, axis=self.layout.axes) / self.count

    def moments(self, x):
        x = self.masked(x)
        mean = self.mean(x)
        broad = self.broad(mean)
        if self.mask is None:
            squares = self.layout.average(lambda x, m: ops.square(x - m), x, broad)
            return mean, squares
        squares = self.total(ops.square, self.masked(x - broad))
        return mean, squares / self.count


def _pair(layout, count, mask, x):
    """Mean and variance of each sample, `(N, 2, C)`, and their derivative.

    One tensor, not two: with two, a training step under TensorFlow's XLA for a CPU
    took 3 times as long. Presumably it fuses the few operations behind each into
    the loop over `x` that reads them; the compiled program was not read.

    `dm/dx = 1 / S`, `dv/dx = 2 (x - m) / S`.
    """
    sums = _Sums(layout, count, mask)
    x = sums.masked(x)
    mean, variance = sums.moments(x)

    def grad(upstream):
        constants = layout, count, mask
        return differentiable(_pair_derivative, True, constants)(x, mean, upstream)

    return ops.stack([mean, variance], axis=1), grad


def _pair_derivative(layout, count, mask, x, mean, upstream):
    """The derivative by `x`; `mean` is that of `x`, whatever depends on it."""
    sums = _Sums(layout, count, mask)
    broad, masked, total = sums.broad, sums.masked, sums.total
    offset, slope = upstream[:, 0] / count, 2 * upstream[:, 1] / count
    # As exact as the output, x * a + b, and a reading of x less than (x - m) * slope.
    dx = x * broad(slope) + broad(offset - mean * slope)

    def grad(upstream):
        u = masked(upstream)
        mean_u = total(lambda v: v, u) / count
        u = masked(u - broad(mean_u))
        pair = [mean_u, 2 * total(ops.multiply, u, x) / count]
        return u * broad(slope), ops.zeros_like(mean), ops.stack(pair, axis=1)

    return masked(dx), grad


def over_channels(mean, variance, groups=1):
    """Layer (`groups=1`) or group statistics from instance moments.

    `mu = mean_c m`, `var = mean_c v + mean_c (m - mu)^2`, inside each of `groups`
    runs of consecutive channels.

    Args:
        mean, variance: `(N, C)`.
        groups: Integer that divides `C`.

    Returns:
        Mean and variance, each `(N, C)`, equal inside a group, or `(N, 1)` for one
        group.
    """
    mu = _channel_average(mean, groups)
    return mu, _channel_average(variance + ops.square(mean - mu), groups)


def over_channels_derivative(deviation, by_mean, by_variance, groups=1):
    """The derivatives of `over_channels` by instance mean and variance.

    `dm = A(dmu) + 2 (m - mu) A(dvar)`, `dv = A(dvar)`, with `A` the average inside
    each group.

    Args:
        deviation: `m - mu`, `(N, C)`.
        by_mean, by_variance: Derivatives by mean and variance of the group, as every
            channel of it adds to them, `(N, C)`.
        groups: Integer that divides `C`.

    Returns:
        Two tensors, `(N, C)`; the second is `(N, 1)` for one group.
    """
    spread = _channel_average(by_variance, groups)
    return _channel_average(by_mean, groups) + deviation * (2 * spread), spread


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
        count: `(N, 1)`, or an integer if all rows have as many. Rows with 0 do not
            count.

    Returns:
        Mean `(1, C)`, variance `(1, C)`, count `(1, 1)`: 0, 0, 0 when no row counts.
        An integer `count` gives an integer.
    """
    if isinstance(count, int):
        total, share = mean.shape[0] * count, 1 / mean.shape[0]
    else:
        total = ops.sum(count, axis=0, keepdims=True)
        share = count / ops.maximum(total, 1)

    merged = with_derivative(_merged, _merged_derivative, constants=(share,))
    return Moments(*merged(mean, variance), total)


def _merged(share, mean, variance):
    mu = ops.sum(share * mean, axis=0, keepdims=True)
    deviation = mean - mu
    spread = share * (variance + ops.square(deviation))
    return (mu, ops.sum(spread, axis=0, keepdims=True)), deviation


def _merged_derivative(share, deviation, _, upstream):
    by_mean, by_variance = upstream
    by_mean = share * (by_mean + 2 * deviation * by_variance)
    return [by_mean, ops.broadcast_to(share * by_variance, ops.shape(deviation))]


def moved(moving, batch, momentum):
    """Moving mean and variance after a batch: `old * momentum + new * (1 - momentum)`.

    Args:
        moving: Moving mean and variance, each `(C,)`.
        batch: `Moments` of the batch, as from `over_batch`. A count of 0 leaves
            `moving` as it was.
        momentum: Float in [0, 1].
    """
    found = []
    for old, new in zip(moving, batch[:2], strict=True):
        updated = old * momentum + ops.reshape(new, old.shape) * (1.0 - momentum)
        if not isinstance(batch.count, int):
            updated = ops.where(ops.reshape(batch.count, (1,)) > 0, updated, old)
        found.append(updated)
    return found


def of(name, mean, variance, batch, groups):
    """Mean and variance of the normalizer `name`, in shapes that broadcast to
    `(N, C)`: what depends on weights only is not repeated for every sample.

    Args:
        name: One of `NORMALIZERS`.
        mean, variance: Of each sample, `(N, C)`.
        batch: Mean and variance for "batch".
        groups: Number of groups for "group".
    """
    if name == "instance":
        return mean, variance
    if name == "batch":
        return batch
    return over_channels(mean, variance, groups if name == "group" else 1)
