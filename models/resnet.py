"""Residual networks of bottlenecks (He et al. 2016), with the stride on the 3x3
convolution (Goyal et al. 2017), and what was built on them.
"""

from keras import layers

from .application import application
from .attention import RelativeAttention2D

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Of each stage.
STRIDES = {1: 1, 2: 2, 3: 2, 4: 2}
DILATIONS = {1: 1, 2: 1, 3: 1, 4: 1}


def bottlenecks(
    build,
    blocks,
    zero_init_last_gamma,
    strides=STRIDES,
    dilations=DILATIONS,
    attention=(),
    squeeze=False,
):
    """The feature maps of a residual network.

    Args:
        build: `application.Builder`.
        blocks: Blocks of each of the four stages.
        strides, dilations: Of each stage, from 1 on. The first block of a stage has
            the dilation of the stage before.
        attention: Stages whose 3x3 convolutions are augmented by attention.
        squeeze: Whether blocks squeeze and excite.
    """
    last = {"gamma_initializer": "zeros"} if zero_init_last_gamma else {}
    x = build.conv(build.images, 64, 7, 2, name="stem", relu=True)
    x = build.max_pool(x, "stem_pool")
    for stage, count in enumerate(blocks, start=1):
        filters = 32 * 2**stage
        for block in range(1, count + 1):
            prefix = f"stage{stage}_block{block}"
            stride = strides[stage] if block == 1 else 1
            # What takes the place of a stride dilates what is behind it.
            dilation = dilations[max(1, stage - 1) if block == 1 else stage]
            shortcut = x
            if block == 1:
                name = f"{prefix}_shortcut"
                shortcut = build.conv(x, 4 * filters, 1, stride, name=name)
            x = build.conv(x, filters, 1, name=f"{prefix}_1", relu=True)
            if stage in attention:
                x = _augmented(build, x, filters, stride, f"{prefix}_2")
            else:
                x = build.conv(
                    x,
                    filters,
                    3,
                    stride,
                    name=f"{prefix}_2",
                    dilation=dilation,
                    relu=True,
                )
            x = build.conv(x, 4 * filters, 1, name=f"{prefix}_3", **last)
            if squeeze:
                x = _squeeze_and_excite(build, x, 4 * filters, prefix)
            x = layers.Add(name=f"{prefix}_add")([shortcut, x])
            x = layers.ReLU(name=f"{prefix}_relu")(x)
    return x


def _squeeze_and_excite(build, x, channels, prefix, reduction=16):
    """Hu et al. 2018, Sec. 3."""
    scale = layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}_squeeze")(x)
    scale = layers.Conv2D(
        channels // reduction, 1, activation="relu", name=f"{prefix}_excite_1"
    )(scale)
    scale = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{prefix}_excite_2")(
        scale
    )
    return layers.Multiply(name=f"{prefix}_scale")([x, scale])


def _augmented(build, x, filters, stride, prefix, heads=8):
    """A 3x3 convolution, some of whose channels are those of self-attention.

    Bello et al. 2019, Sec. 3 and 4.2: of `F` channels `v F` come from attention with
    keys of `k F`, `k = 2 v = 0.2`, at least 20 a head; `v F` is rounded down to a
    multiple of the heads. The convolution behind which queries, keys and values are
    split has the block's stride.
    """
    values = max(1, int(0.1 * filters) // heads) * heads
    keys = max(20, int(0.2 * filters) // heads) * heads
    joint = layers.Conv2D(
        2 * keys + values, 1, stride, use_bias=False, name=f"{prefix}_attention_qkv"
    )(x)
    attended = RelativeAttention2D(heads, keys, name=f"{prefix}_attention")(joint)
    attended = layers.Conv2D(values, 1, use_bias=False, name=f"{prefix}_attention_out")(
        attended
    )
    padding = "same"
    if stride > 1:
        x = layers.ZeroPadding2D(1, name=f"{prefix}_pad")(x)
        padding = "valid"
    x = layers.Conv2D(
        filters - values,
        3,
        stride,
        padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{prefix}_conv",
    )(x)
    x = layers.Concatenate(build.axis, name=f"{prefix}_concat")([x, attended])
    x = build.norm(x, f"{prefix}_norm")
    return layers.ReLU(name=f"{prefix}_relu")(x)


@application(224)
def ResNet50(build, zero_init_last_gamma=False):
    """ResNet of 50 layers (Tables 2, 3, 7, 8, 9): 53 normalizations.

    Args:
        zero_init_last_gamma: Whether gamma starts at 0 in the last normalization of
            each block (Goyal et al. 2017).
    """
    return bottlenecks(build, BLOCKS[50], zero_init_last_gamma)


@application(224)
def ResNet101(build, zero_init_last_gamma=False):
    """ResNet of 101 layers (He et al. 2016): 104 normalizations.

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[101], zero_init_last_gamma)


@application(224)
def ResNet152(build, zero_init_last_gamma=False):
    """ResNet of 152 layers (He et al. 2016): 155 normalizations.

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[152], zero_init_last_gamma)


@application(224, name="se_resnet50")
def SEResNet50(build, zero_init_last_gamma=False):
    """ResNet-50 whose blocks squeeze and excite, at a reduction of 16 (Hu et al. 2018;
    "SENet" of Table 2).

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[50], zero_init_last_gamma, squeeze=True)


@application(224, fixed=True, name="aa_resnet50")
def AAResNet50(build, zero_init_last_gamma=False):
    """ResNet-50 whose 3x3 convolutions of the last three stages are augmented by
    self-attention with relative positions (Bello et al. 2019; "AANet" of Table 2).

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[50], zero_init_last_gamma, attention=(2, 3, 4))
