"""ShuffleNet v2 (Ma et al. 2018)."""

import keras
from keras import layers, ops

from .application import application

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


@application(224, name="shufflenet_v2_x{width}")
def ShuffleNetV2(build, width=1.0):
    """ShuffleNet v2 (Table 2 has width 0.5): 56 normalizations.

    With "en" the reduction is 8, as in Sec. 4.1, unless it is given; the widths 1.0 and
    2.0, whose channels 8 does not divide, take that of each layer's default.

    Args:
        width: 0.5, 1.0, 1.5 or 2.0.
    """
    if width not in list(CHANNELS):
        raise ValueError(
            f"Argument `width` must be one of {list(CHANNELS)}. "
            f"Received: width={width!r}"
        )
    if width in (0.5, 1.5):
        build.default_reduction(8)
    *stages, top = CHANNELS[width]
    x = build.conv(build.images, 24, 3, 2, name="stem", relu=True)
    x = build.max_pool(x, "stem_pool")
    for stage, (channels, count) in enumerate(zip(stages, (4, 8, 4), strict=True), 2):
        half = channels // 2
        for block in range(1, count + 1):
            prefix = f"stage{stage}_block{block}"
            if block == 1:
                kept = build.conv(x, None, 3, 2, name=f"{prefix}_left_1")
                kept = build.conv(kept, half, 1, name=f"{prefix}_left_2", relu=True)
                stride = 2
            else:
                name = f"stage{stage}_block{block - 1}_shuffle"
                kept, x = ShuffledHalves(build.axis, name=name)([kept, x])
                stride = 1
            x = build.conv(x, half, 1, name=f"{prefix}_1", relu=True)
            x = build.conv(x, None, 3, stride, name=f"{prefix}_2")
            x = build.conv(x, half, 1, name=f"{prefix}_3", relu=True)
        name = f"stage{stage}_block{count}_shuffle"
        halves = ShuffledHalves(build.axis, name=name)([kept, x])
        x = layers.Concatenate(build.axis, name=f"stage{stage}_concat")(halves)
    return build.conv(x, top, 1, name="top", relu=True)
