"""Sums and means over the positions of each sample, in the form that is fastest where
they run, and the output of every folded normalizer."""

import functools
import math
import operator
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_en.ops import tracing
from keras_en.ops.gradients import with_backward

# The longest axis whose float32 sum is left as it is.
_SHORT = 512
# In how many parts `Spatial.part` divides the first spatial axis, at most.
_PARTS = 64


class Spatial(NamedTuple):
    """The layout of tensors `(N, spatial..., C)`, and what a mask leaves of them.

    - `axes`: the spatial axes.
    - `shape`: that of `(N, C)` as it broadcasts to `(N, spatial..., C)`.
    - `sizes`: of the spatial axes; a tensor where one is unknown.
    - `chunks`: in how many parts the first spatial axis is added up; see `sum`.
    - `mask`: `None`, or booleans that broadcast to `(N, spatial..., C)`.
    - `count`: the number of positions of each sample: a number, or with a mask that of
      its `True`: `(N, 1)`, and `(N, C)` where channels are not last and so masked
      each on its own.
    """

    axes: tuple
    shape: tuple
    sizes: tuple
    chunks: int
    mask: Any
    count: Any

    @classmethod
    def of(cls, x, axis, mask=None):
        """The layout of a tensor.

        Args:
            x: Tensor `(N, spatial..., C)` of rank 2 to 5, its channels on `axis`.
            axis: Positive integer.
            mask: `None` or a tensor of the shape of `x` without its last axis, as
                Keras sends it whatever `axis` is, or one that broadcasts to it.
        """
        shape = ops.shape(x)
        axes = tuple(i for i in range(1, len(shape)) if i != axis)
        sizes = tuple(shape[i] for i in axes)
        # -1: an unknown batch size would have to be computed.
        broad = (-1, *(n if i == axis else 1 for i, n in enumerate(shape) if i))
        chunks = 1
        if axes and isinstance(sizes[0], int) and tracing.is_xla_on_cpu():
            chunks = max(u for u in range(1, 9) if sizes[0] % u == 0)
        count = math.prod(sizes)
        if mask is not None:
            mask = ops.broadcast_to(ops.cast(mask, "bool"), shape[:-1])
            count = _count(ops.cast(mask, x.dtype), axis, shape)
            mask = ops.expand_dims(mask, -1)
        elif not isinstance(count, int):
            count = ops.cast(count, x.dtype)
        return cls(axes, broad, sizes, chunks, mask, count)

    @property
    def positions(self):
        """`count` as a divisor: at least 1 where it is that of a mask."""
        return self.count if self.mask is None else ops.maximum(self.count, 1)

    def broad(self, values):
        """`(N, C)` in the shape that broadcasts to `(N, spatial..., C)`."""
        return ops.reshape(values, self.shape)

    def masked(self, values):
        """`values` with 0 where the mask is `False`."""
        # `where`, not a product: infinity times 0 is NaN.
        return values if self.mask is None else ops.where(self.mask, values, 0)

    def sum(self, function, *tensors):
        """`sum_s function(*tensors)[n, s, c]`, `(N, C)`, over what the mask leaves.

        Chunks along the first spatial axis are added up element by element.
        TensorFlow's XLA on a CPU fuses what is summed into the sum, and then runs down
        the spatial axes with a stride of C: sums of (x - m)^2 take 2 to 5 times the
        time of reading x. A sum of chunks is a plain loop over contiguous channels,
        which leaves an eighth to sum (measured: 0.3 to 0.6 of the time). Outside XLA
        every addition would be a pass of its own.

        Args:
            function: Elementwise.
            *tensors: Of the layout's shape, or one of `broad`.
        """
        if self.mask is not None:
            tensors, elementwise = (self.mask, *tensors), function

            def function(mask, *tensors):
                return ops.where(mask, elementwise(*tensors), 0)

        parts = zip(*map(self._split, tensors), strict=True)
        values = functools.reduce(operator.add, (function(*part) for part in parts))
        return ops.sum(values, axis=self.axes)

    def _split(self, tensor):
        axis, count = self.axes[0], self.chunks
        if count == 1 or tensor.shape[axis] == 1:
            return [tensor] * count
        return ops.split(tensor, count, axis)

    def mean(self, function, *tensors):
        """`sum` over the number of positions.

        Along the last axis first, which is not only more exact: on JAX and a CPU the
        layer took 0.8 of the time in inference and 0.9 in training, with batches of 8
        and 32; of one sample 1.2 and 1.1.
        """
        if self.chunks > 1 or self.mask is not None:
            return self.sum(function, *tensors) / self.positions
        values = function(*tensors)
        if len(self.axes) > 1:
            values = _mean(values, self.axes[-1:], keepdims=True)
        return _mean(values, self.axes)

    def moments(self, x, part=None):
        """Mean and variance of each sample, `(N, C)` each.

        With a `part`, of one reading: with `s` the mean of that part, and sums over `n`
        positions of `x - s` and `(x - s)^2`,

        `mean = s + S1 / n`, `var = S2 / n - (S1 / n)^2`.

        The mean of `k` of `n` positions is never further from that of all than
        `sqrt(var (n - k) / k)` (Samuelson's inequality). So `S2 / n` is at most
        `var n / k`, and so is, relative to `var`, how much larger the difference makes
        the rounding of `S2`: 64 times at most, whatever the data.

        Args:
            x: Tensor, 0 where the mask is `False`.
            part: As `part` returns it; `None` for two readings.
        """
        if part is None:
            mean = self.exact_mean(x)
            squares = self.mean(lambda x, m: ops.square(x - m), x, self.broad(mean))
            return mean, squares
        values, weight = part
        shift = ops.sum(ops.cast(values, x.dtype) * weight, axis=self.axes)
        share, broad = 1 / self.positions, self.broad(shift)
        mean = self.sum(ops.subtract, x, broad) * share
        squares = self.sum(lambda x, s: ops.square(x - s), x, broad) * share
        return shift + mean, ops.maximum(squares - ops.square(mean), 0)

    def part(self, x):
        """What `moments` of one reading shifts by: values of at least a 64th of the
        positions that count in each sample, 0 where they do not, and weights that make
        a mean of their sum. `None` where two readings are faster, sizes unknown, or an
        axis with a mask has no such parts.

        The slice is of `x` as it is: of a wider copy, XLA for a TPU would keep that.
        """
        sizes, first = self.sizes, self.axes[0]
        if not (tracing.is_fusing() and all(isinstance(n, int) and n for n in sizes)):
            return None
        length = -(-sizes[0] // _PARTS)
        # Where channels are not last the mask is the same all along the last axis.
        same = first == len(self.shape) - 1
        if self.mask is None or same:
            values = self.masked(ops.split(x, [length], axis=first)[0])
            return values, 1 / (length * math.prod(sizes[1:]))
        if sizes[0] % length:
            return None
        places = self._fullest(length)
        values, mask = (
            ops.take_along_axis(tensor, places, axis=first) for tensor in (x, self.mask)
        )
        count = ops.sum(ops.cast(mask, self.count.dtype), self.axes, keepdims=True)
        if self.axes[-1] == len(self.shape) - 1:
            count = count * sizes[-1]
        return ops.where(mask, values, 0), 1 / ops.maximum(count, 1)

    def _fullest(self, length):
        """The indices along the first spatial axis of that part, of `length`, in which
        most positions of the mask count; `(N, 1, ..., length, ..., 1)`."""
        first = self.axes[0]
        counts = ops.sum(ops.cast(self.mask, "int32"), self.axes[1:], keepdims=True)
        shape = list(ops.shape(counts))
        parts = ops.reshape(counts, [*shape[:first], -1, length, *shape[first + 1 :]])
        fullest = ops.argmax(ops.sum(parts, first + 1), axis=first, keepdims=True)
        steps = ops.arange(length, dtype=fullest.dtype)
        broad = [length if i == first else 1 for i in range(len(shape))]
        return fullest * length + ops.reshape(steps, broad)

    def exact_mean(self, x):
        """The mean of `x`, exact where float32 sums of many large numbers would drift.

        Sums along one axis and then along the others are short for an image. Where
        they are not, the mean of what is left around the first result is added, which
        costs nothing where the first axis left little. A mask leaves nothing little.
        """
        if self.mask is not None:
            shift = self.mean(lambda x: x, x)
            return shift + self.mean(ops.subtract, x, self.broad(shift))
        if len(self.axes) > 1:
            x = _mean(x, self.axes[-1:], keepdims=True)
        mean = _mean(x, self.axes)
        short = all(isinstance(n, int) and n <= _SHORT for n in self.sizes)
        if len(self.axes) > 1 and short:
            return mean
        return mean + _mean(x - self.broad(mean), self.axes)


def _count(mask, axis, shape):
    """The number of `True` of a mask without the last axis, of each sample or of each
    of its channels."""
    if axis == len(shape) - 1:
        rows = ops.reshape(mask, (shape[0], -1))
        return ops.sum(rows, axis=1, keepdims=True)
    axes = tuple(i for i in range(1, len(shape) - 1) if i != axis)
    rows = ops.sum(mask, axis=axes) if axes else mask
    return rows * ops.cast(shape[-1], mask.dtype)


def _mean(values, axes, keepdims=False):
    if keras.backend.backend() == "tensorflow":
        return ops.mean(values, axis=axes, keepdims=keepdims)
    # On JAX `keras.ops.mean` computes float64 in float32.
    count = math.prod(values.shape[i] for i in axes)
    return ops.sum(values, axis=axes, keepdims=keepdims) / count


def scale_and_shift(x, scale, shift, axis, training=False):
    """`y[n, s, c] = x[n, s, c] * scale[n, c] + shift[n, c]`.

    Args:
        x: Tensor `(N, spatial..., C)`, its channels on `axis`.
        scale, shift: `(N, C)`, in the dtype of `x`.
        axis: Positive integer.
        training: If `True`, the residuals are `x` and `scale` only. Otherwise the
            operations are plain, for exporters.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    layout = Spatial.of(x, axis)
    if training and layout.axes:
        return with_backward(_forward, _backward, (x, scale, shift), layout)[0]
    return x * layout.broad(scale) + layout.broad(shift)


def _forward(layout, inputs):
    x, scale, shift = inputs
    return (x * layout.broad(scale) + layout.broad(shift),), ()


def _backward(layout, inputs, residuals, upstream):
    (x, scale, _), (upstream,) = inputs, upstream
    return (
        upstream * layout.broad(scale),
        layout.sum(ops.multiply, upstream, x),
        layout.sum(lambda u: u, upstream),
    )
