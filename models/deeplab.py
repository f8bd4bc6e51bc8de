"""Semantic segmentation with dilated convolutions (Chen et al. 2018)."""

import dataclasses
from typing import Any

import keras
from keras import layers, ops

from keras_en.arguments import check

from .application import Options, application
from .builder import Builder, at_least_float32
from .resnet import BLOCKS, stages

HEADS = ("plain", "fcn")


@keras.saving.register_keras_serializable(package="keras_en")
class ResizeLike(keras.layers.Layer):
    """Bilinear resizing of one tensor to the height and width of another.

    Args:
        data_format: `None`: Keras's image data format.
        **kwargs: Base layer keyword arguments.

    Call arguments:
        inputs: `(maps, images)` in the data format.

    Output shape:
        That of `images`, with the channels of `maps`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, inputs):
        maps, images = inputs
        start = 1 if self.data_format == "channels_last" else 2
        size = ops.shape(images)[start : start + 2]
        if all(isinstance(n, int) for n in size):
            return ops.image.resize(maps, size, data_format=self.data_format)
        # Of sizes that are not known TensorFlow's backend of Keras asks the sign.
        import tensorflow as tf

        if start == 2:
            maps = ops.transpose(maps, (0, 2, 3, 1))
        maps = ops.cast(tf.image.resize(maps, size), maps.dtype)
        return ops.transpose(maps, (0, 3, 1, 2)) if start == 2 else maps

    def compute_output_shape(self, input_shape):
        maps, images = input_shape
        if self.data_format == "channels_last":
            return (*images[:3], maps[3])
        return (*maps[:2], *images[2:])

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


@dataclasses.dataclass
class DeepLabOptions(Options):
    """Of `DeepLabResNet50`."""

    classes: int = 19
    aspp: bool = False
    zero_init_last_gamma: bool = False
    head: str = "plain"
    auxiliary: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.head in HEADS, "head", f"one of {HEADS}", self.head)
        valid = not self.aspp or self.head == "plain"
        check(valid, "head", "'plain' behind a pyramid, aspp=True", self.head)
        valid = not self.auxiliary or self.include_top
        check(valid, "auxiliary", "False without the top", self.auxiliary)


@application(DeepLabOptions, 512, name="deeplab_resnet50", own_top=True)
def DeepLabResNet50(build: Builder) -> Any:
    """ResNet-50 with dilation 2 and 4 in its last two stages (Table 6; Sec. 4.4).

    The last feature maps have an eighth of the image's size; the head makes `classes`
    maps of them, resized bilinearly to the size of the image. Sizes that 8
    does not divide are rounded up. Without the top: the last feature maps. With the
    weights of a `ResNet50`, which fit, every fourth of them is that network's: the
    dilation begins behind the convolution that has lost its stride.

    >>> DeepLabResNet50(input_shape=(65, 64, 3), norm="bn").output_shape
    (None, 65, 64, 19)

    Args:
        aspp: Whether atrous spatial pyramid pooling stands before the classifier: 1x1,
            3x3 with dilation 12, 24, 36 and image pooling, 256 channels each (Chen et
            al. 2017, "Rethinking atrous convolution", Sec. 3.3, at output stride 8).
        zero_init_last_gamma: See `ResNet50`.
        head: What stands before the 1x1 convolution. "plain": nothing. "fcn": a 3x3
            convolution to 512 channels, normalization and ReLU, as in the segmentation
            code of Switchable Normalization's authors (c1_bilinear_deepsup), from whose
            runs Table 6 has its baselines.
        auxiliary: Whether the model has, for training, a second output: that of an
            "fcn" head of its own on stage 3. The outputs are then a dictionary of
            "main" and "auxiliary", both of the image's size; the authors weight the
            loss of the second by 0.4. A file of its weights is one for the model
            without it, too.
    """
    *_, third, x = stages(
        build,
        BLOCKS[50],
        strides={1: 1, 2: 2, 3: 1, 4: 1},
        dilations={1: 1, 2: 1, 3: 2, 4: 4},
    )
    options = build.options
    if options.aspp:
        x = _pyramid(build, x)
    if not options.include_top:
        return x
    if options.head == "fcn":
        x = build.conv(x, 512, 3, name="head", relu=True)
    main = _resized(build, _classifier(build, x))
    if not options.auxiliary:
        return main
    auxiliary = _resized(build, _auxiliary(build, third), "auxiliary_")
    return {"main": main, "auxiliary": auxiliary}


def _classifier(build, x, prefix=""):
    return layers.Conv2D(
        build.options.classes, 1, name=f"{prefix}predictions", dtype=at_least_float32()
    )(x)


def _resized(build, x, prefix=""):
    dtype = at_least_float32()
    x = ResizeLike(name=f"{prefix}resize", dtype=dtype)([x, build.images])
    name, activation = f"{prefix}activation", build.options.classifier_activation
    if keras.activations.get(activation) is keras.activations.softmax:
        # `Activation` has it over the last axis, whatever the data format.
        return layers.Softmax(build.axis, name=name, dtype=dtype)(x)
    return layers.Activation(activation, name=name, dtype=dtype)(x)


def _auxiliary(build, features):
    """Low-resolution scores of a head of its own.

    A model inside the model: files of weights count the layers of each class, so that
    others would have other places in them with it than without it.
    """
    inputs = keras.Input(features.shape[1:], dtype=features.dtype)
    x = build.conv(inputs, 512, 3, name="auxiliary", relu=True)
    scores = _classifier(build, x, "auxiliary_")
    return keras.Model(inputs, scores, name="auxiliary_head")(features)


def _pyramid(build, x):
    branches = [build.conv(x, 256, 1, name="aspp_1", relu=True)]
    for rate in (12, 24, 36):
        name = f"aspp_rate{rate}"
        branches.append(build.conv(x, 256, 3, name=name, dilation=rate, relu=True))
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool")(x)
    pooled = build.conv(pooled, 256, 1, name="aspp_pooled", relu=True)
    branches.append(ResizeLike(name="aspp_resize")([pooled, x]))
    x = layers.Concatenate(build.axis, name="aspp_concat")(branches)
    return build.conv(x, 256, 1, name="aspp_out", relu=True)
