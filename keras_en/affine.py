"""The output of every folded normalizer: one multiply-add per element."""

from keras import ops

from keras_en import moments


def scale_and_shift(x, scale, shift, axis):
    """`y[n, s, c] = x[n, s, c] * scale[n, c] + shift[n, c]`.

    Args:
        x: Tensor `(N, spatial..., C)`, its channels on `axis`.
        scale, shift: `(N, C)`, in the dtype of `x`.
        axis: Positive integer.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    shape = moments.channel_shape(ops.shape(x), axis)
    return x * ops.reshape(scale, shape) + ops.reshape(shift, shape)
