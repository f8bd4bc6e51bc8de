"""Residual networks of bottlenecks (He et al. 2016), with the stride on the 3x3
convolution (Goyal et al. 2017), and what was built on them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras import layers

from .application import Options, application
from .attention import RelativeAttention2D
from .builder import Builder

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Of each stage.
STRIDES = {1: 1, 2: 2, 3: 2, 4: 2}
DILATIONS = {1: 1, 2: 1, 3: 1, 4: 1}


@dataclasses.dataclass
class ResidualOptions(Options):
    """Of residual networks."""

    zero_init_last_gamma: bool = False


def bottlenecks(build: Builder, blocks: Sequence[int], **kwargs: Any) -> Any:
    """The last feature maps of a residual network, with the arguments of `stages`."""
    return stages(build, blocks, **kwargs)[-1]


def stages(
    build, blocks, strides=STRIDES, dilations=DILATIONS, attention=(), squeeze=False
):
    """The feature maps of each of the four stages of a residual network, a list.

    Args:
        blocks: Blocks of each of the four stages.
        strides, dilations: Of each stage, from 1 on. The first block of a stage has
            the dilation of the stage before.
        attention: Stages whose 3x3 convolutions are augmented by attention.
        squeeze: Whether blocks squeeze and excite.
    """
    x = build.conv(build.images, 64, 7, 2, name="stem", relu=True)
    x = build.max_pooling(x, "stem_pool")
    outputs = []
    for stage, count in enumerate(blocks, start=1):
        for block in range(1, count + 1):
            first = block == 1
            x = _bottleneck(
                build,
                x,
                32 * 2**stage,
                f"stage{stage}_block{block}",
                stride=strides[stage] if first else 1,
                # What takes the place of a stride dilates what is behind it.
                dilation=dilations[max(1, stage - 1) if first else stage],
                attention=stage in attention,
                squeeze=squeeze,
                **last_gamma(build),
            )
        outputs.append(x)
    return outputs


def _bottleneck(
    build, x, filters, prefix, stride, dilation, attention, squeeze, **last
):
    short = shortcut(build, x, 4 * filters, stride, prefix)
    x = build.conv(x, filters, 1, name=f"{prefix}_1", relu=True)
    name = f"{prefix}_2"
    if attention:
        x = _augmented(build, x, filters, stride, name)
    else:
        x = build.conv(x, filters, 3, stride, name=name, dilation=dilation, relu=True)
    x = build.conv(x, 4 * filters, 1, name=f"{prefix}_3", **last)
    if squeeze:
        x = _squeeze_and_excite(x, 4 * filters, prefix)
    return add(short, x, prefix)


def shortcut(build: Builder, x: Any, filters: int, stride: int, prefix: str) -> Any:
    """`x`, or a convolution of it where a block changes the channels."""
    if x.shape[build.axis] == filters:
        return x
    return build.conv(x, filters, 1, stride, name=f"{prefix}_shortcut")


def add(short: Any, x: Any, prefix: str) -> Any:
    """The end of a block."""
    x = layers.Add(name=f"{prefix}_add")([short, x])
    return layers.ReLU(name=f"{prefix}_relu")(x)


def last_gamma(build: Builder) -> dict[str, str]:
    """Arguments of the last normalization of each block."""
    zeros = build.options.zero_init_last_gamma
    return {"gamma_initializer": "zeros"} if zeros else {}


def _squeeze_and_excite(x, channels, prefix, reduction=16):
    """Hu et al. 2018, Sec. 3."""
    scale = layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}_squeeze")(x)
    parts = (channels // reduction, "relu"), (channels, "sigmoid")
    for i, (filters, activation) in enumerate(parts, start=1):
        name = f"{prefix}_excite_{i}"
        scale = layers.Conv2D(filters, 1, activation=activation, name=name)(scale)
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
    x = build.convolution(x, filters - values, 3, stride, name=prefix)
    x = layers.Concatenate(build.axis, name=f"{prefix}_concat")([x, attended])
    x = build.norm(x, f"{prefix}_norm")
    return layers.ReLU(name=f"{prefix}_relu")(x)


@application(ResidualOptions, 224)
def ResNet50(build: Builder) -> Any:
    """ResNet of 50 layers (Tables 2, 3, 7, 8, 9): 53 normalizations.

    >>> ResNet50(include_top=False, input_shape=(32, 64, 3), norm="bn").output_shape
    (None, 1, 2, 2048)

    Args:
        zero_init_last_gamma: Whether gamma starts at 0 in the last normalization of
            each block (Goyal et al. 2017).
    """
    return bottlenecks(build, BLOCKS[50])


@application(ResidualOptions, 224)
def ResNet101(build: Builder) -> Any:
    """ResNet of 101 layers (He et al. 2016): 104 normalizations.

    >>> ResNet101(norm="bn", classes=10).output_shape
    (None, 10)

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[101])


@application(ResidualOptions, 224)
def ResNet152(build: Builder) -> Any:
    """ResNet of 152 layers (He et al. 2016): 155 normalizations.

    >>> ResNet152(norm="bn", classes=10).output_shape
    (None, 10)

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[152])


@application(ResidualOptions, 224, name="se_resnet50")
def SEResNet50(build: Builder) -> Any:
    """ResNet-50 whose blocks squeeze and excite, at a reduction of 16 (Hu et al. 2018;
    "SENet" of Table 2).

    >>> SEResNet50(norm="bn", classes=10).output_shape
    (None, 10)

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[50], squeeze=True)


@application(ResidualOptions, 224, fixed=True, name="aa_resnet50")
def AAResNet50(build: Builder) -> Any:
    """ResNet-50 whose 3x3 convolutions of the last three stages are augmented by
    self-attention with relative positions (Bello et al. 2019; "AANet" of Table 2).

    >>> AAResNet50(input_shape=(64, 64, 3), norm="bn").output_shape
    (None, 1000)

    Args:
        zero_init_last_gamma: See `ResNet50`.
    """
    return bottlenecks(build, BLOCKS[50], attention=(2, 3, 4))
