"""The output of every folded normalizer: one multiply-add per element."""

from keras import ops

from keras_en import moments


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
    shape = moments.channel_shape(ops.shape(x), axis)
    spatial = tuple(i for i in range(1, len(shape)) if i != axis)

    def forward(x, scale, shift):
        def grad(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            return (
                upstream * ops.reshape(scale, shape),
                ops.sum(upstream * x, axis=spatial),
                ops.sum(upstream, axis=spatial),
            )

        return x * ops.reshape(scale, shape) + ops.reshape(shift, shape), grad

    if training and spatial:
        return ops.custom_gradient(forward)(x, scale, shift)
    return forward(x, scale, shift)[0]
