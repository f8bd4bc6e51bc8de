"""ShuffleNet v2 (Ma et al. 2018)."""

import dataclasses
from typing import Any

import keras
from keras import layers, ops

from keras_en.arguments import check

from .application import Options, application
from .builder import Builder

CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


@keras.saving.register_keras_serializable(package="keras_en")
class ShuffledHalves(keras.layers.Layer):
    """The channels of two tensors in turn, cut into two halves.

    `[a0, b0, a1, b1, ...]`, as concatenation, channel shuffle of two groups and split
    (Ma et al. 2018, Fig. 3c) would have it.

    Args:
        axis: Channel axis.

    Call arguments:
        inputs: Two tensors of one shape.

    Output shape:
        Twice that of an input.
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs):
        axis = self.axis % len(inputs[0].shape)
        channels = inputs[0].shape[axis]
        sizes = ops.shape(inputs[0])
        mixed = ops.stack(inputs, axis=axis + 1)
        halves = ops.reshape(mixed, (*sizes[:axis], 2, channels, *sizes[axis + 1 :]))
        return [ops.take(halves, i, axis=axis) for i in range(2)]

    def compute_output_spec(self, inputs):
        return [keras.KerasTensor(x.shape, dtype=self.compute_dtype) for x in inputs]

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}


@dataclasses.dataclass
class ShuffleNetOptions(Options):
    """Of `ShuffleNetV2`."""

    width: float = 1.0


@application(ShuffleNetOptions, 224, name="shufflenet_v2_x{width}")
def ShuffleNetV2(build: Builder) -> Any:
    """ShuffleNet v2 (Table 2 has width 0.5): 56 normalizations.

    With "en" the reduction is 8, as in Sec. 4.1, unless it is given; the widths 1.0 and
    2.0, whose channels 8 does not divide, take that of each layer's default.

    >>> ShuffleNetV2(width=0.5, norm="bn").output_shape
    (None, 1000)

    Args:
        width: 0.5, 1.0, 1.5 or 2.0.
    """
    width = build.options.width
    check(width in list(CHANNELS), "width", f"one of {list(CHANNELS)}", width)
    if width in (0.5, 1.5):
        build.default_reduction(8)
    *stages, top = CHANNELS[width]
    x = build.conv(build.images, 24, 3, 2, name="stem", relu=True)
    x = build.max_pooling(x, "stem_pool")
    for stage, (channels, count) in enumerate(zip(stages, (4, 8, 4), strict=True), 2):
        x = _stage(build, x, channels // 2, count, f"stage{stage}")
    return build.conv(x, top, 1, name="top", relu=True)


def _stage(build, x, channels, count, prefix):
    """`count` blocks of two branches with `channels` each; the first halves the
    image."""
    left = build.conv(x, None, 3, 2, name=f"{prefix}_block1_left_1")
    left = build.conv(left, channels, 1, name=f"{prefix}_block1_left_2", relu=True)
    right = _right(build, x, channels, 2, f"{prefix}_block1")
    for block in range(2, count + 1):
        left, x = _shuffled(build, left, right, f"{prefix}_block{block - 1}")
        right = _right(build, x, channels, 1, f"{prefix}_block{block}")
    halves = _shuffled(build, left, right, f"{prefix}_block{count}")
    return layers.Concatenate(build.axis, name=f"{prefix}_concat")(halves)


def _right(build, x, channels, stride, prefix):
    x = build.conv(x, channels, 1, name=f"{prefix}_1", relu=True)
    x = build.conv(x, None, 3, stride, name=f"{prefix}_2")
    return build.conv(x, channels, 1, name=f"{prefix}_3", relu=True)


def _shuffled(build, left, right, prefix):
    return ShuffledHalves(build.axis, name=f"{prefix}_shuffle")([left, right])
