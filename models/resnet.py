"""Residual networks of bottlenecks (He et al. 2016), with the stride on the 3x3
convolution (Goyal et al. 2017): 25.56 M parameters and 4.1 G multiply-adds at depth 50.
"""

from keras import layers

from .application import Builder
from .norms import norm_name


def _resnet(
    blocks,
    include_top,
    weights,
    input_tensor,
    input_shape,
    pooling,
    classes,
    classifier_activation,
    name,
    norm,
    norm_kwargs,
    zero_init_last_gamma,
):
    build = Builder(input_tensor, input_shape, norm, norm_kwargs)
    last = {"gamma_initializer": "zeros"} if zero_init_last_gamma else {}
    x = build.conv(build.images, 64, 7, 2, "stem", pad=3)
    x = layers.ReLU(name="stem_relu")(x)
    # Zeros pad as well as minus infinity does, after a ReLU.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, count in enumerate(blocks, start=1):
        filters = 32 * 2**stage
        for block in range(1, count + 1):
            prefix = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if block == 1:
                shortcut = build.conv(x, 4 * filters, 1, stride, f"{prefix}_shortcut")
            x = build.conv(x, filters, 1, 1, f"{prefix}_1")
            x = layers.ReLU(name=f"{prefix}_1_relu")(x)
            x = build.conv(x, filters, 3, stride, f"{prefix}_2", pad=1)
            x = layers.ReLU(name=f"{prefix}_2_relu")(x)
            x = build.conv(x, 4 * filters, 1, 1, f"{prefix}_3", **last)
            x = layers.Add(name=f"{prefix}_add")([shortcut, x])
            x = layers.ReLU(name=f"{prefix}_relu")(x)
    return build.model(
        x, include_top, weights, pooling, classes, classifier_activation, name
    )


def ResNet50(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=(224, 224, 3),
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
    norm="en",
    norm_kwargs=None,
    zero_init_last_gamma=False,
):
    """ResNet of 50 layers (Tables 2, 3, 7, 8, 9): 53 normalizations.

    Args:
        include_top: Whether to end in a dense classifier.
        weights: `None` (random initialization) or the path of a weights file.
        input_tensor: Optional Keras tensor to use as the images.
        input_shape: Shape of an image, of at least 32 x 32; height and width may be
            `None`. With `data_format="channels_first"`, channels come first.
        pooling: Without the top: `None` for the last feature maps, "avg" or "max".
        classes: Number of classes.
        classifier_activation: Activation of the last layer; `None` for logits.
        name: Name of the model; `resnet50_<norm>` if `None`.
        norm: The normalization, see `keras_en.models.norms.normalization`.
        norm_kwargs: Optional dictionary of arguments of every normalization. The
            paper's reduction of 32 is what the default gives here, where every
            layer has at least 64 channels.
        zero_init_last_gamma: Whether gamma starts at 0 in the last normalization of
            each block (Goyal et al. 2017).

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: `norm`, `pooling` or `weights` is not among those allowed.
    """
    return _resnet(
        (3, 4, 6, 3),
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name or f"resnet50_{norm_name(norm)}",
        norm,
        norm_kwargs,
        zero_init_last_gamma,
    )
