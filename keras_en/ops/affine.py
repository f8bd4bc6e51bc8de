"""The output of every folded normalizer: one multiply-add per element."""

from keras import ops

from keras_en.ops.gradients import differentiable
from keras_en.ops.spatial import Spatial


def scale_and_shift(x, scale, shift, axis, training=False):
    """`y[n, s, c] = x[n, s, c] * scale[n, c] + shift[n, c]`.

    Args:
        x: Tensor `(N, spatial..., C)`, its channels on `axis`.
        scale, shift: `(N, C)`, in the dtype of `x`.
        axis: Positive integer.
        training: If `True`, the backward pass keeps `x` and `scale` only. Otherwise
            the operations are plain, for exporters.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    layout = Spatial(x, axis)

    def forward(x, scale, shift):
        def grad(upstream):
            return (
                upstream * layout.broad(scale),
                layout.total(ops.multiply, upstream, x),
                layout.total(lambda u: u, upstream),
            )

        return x * layout.broad(scale) + layout.broad(shift), grad

    return differentiable(forward, training and layout.axes)(x, scale, shift)
