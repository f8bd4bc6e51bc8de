"""Residual networks for small images (He et al. 2016, Sec. 4.2)."""

import keras
from keras import layers

from .norms import norm_name, normalization


def CifarResNet(
    depth,
    input_shape=(32, 32, 3),
    classes=10,
    classifier_activation="softmax",
    norm="en",
    norm_kwargs=None,
    name=None,
):
    """A residual network of `6 n + 2` layers.

    A 3x3 convolution, then three stages of `n` basic blocks with 16, 32 and 64
    channels; the second and third stage halve the image. Where shapes differ the
    shortcut is a 1x1 convolution with its own normalization (option B).

    Args:
        depth: `6 n + 2`: 8, 14, 20, ..., 56, 110.
        input_shape: `(height, width, channels)` of an image; height and width may
            be `None`. With `data_format="channels_first"`, channels come first.
        classes: Number of classes.
        classifier_activation: Activation of the last layer; `None` for logits.
        norm: The normalization, see `keras_en.models.norms.normalization`.
        norm_kwargs: Optional dictionary of arguments of every normalization.
        name: Name of the model; `cifar_resnet<depth>_<norm>` if `None`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: `depth` is not of the form `6 n + 2`, or `norm` is unknown.
    """
    if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(
            "Argument `depth` must be 6 n + 2 with n of at least 1: 8, 14, 20, ... "
            f"Received: depth={depth!r}"
        )
    axis = -1 if keras.config.image_data_format() == "channels_last" else 1

    def conv(x, filters, size, stride, name):
        x = layers.Conv2D(
            filters,
            size,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        return normalization(
            norm, filters, axis=axis, name=f"{name}_norm", **(norm_kwargs or {})
        )(x)

    inputs = keras.Input(input_shape, name="images")
    x = conv(inputs, 16, 3, 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            prefix = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if x.shape[axis] != filters:
                shortcut = conv(x, filters, 1, stride, f"{prefix}_shortcut")
            x = conv(x, filters, 3, stride, f"{prefix}_1")
            x = layers.ReLU(name=f"{prefix}_1_relu")(x)
            x = conv(x, filters, 3, 1, f"{prefix}_2")
            x = layers.Add(name=f"{prefix}_add")([shortcut, x])
            x = layers.ReLU(name=f"{prefix}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(
        classes, activation=classifier_activation, name="predictions", dtype="float32"
    )(x)
    return keras.Model(
        inputs, outputs, name=name or f"cifar_resnet{depth}_{norm_name(norm)}"
    )
