"""Residual networks for small images (He et al. 2016, Sec. 4.2)."""

import dataclasses
import functools
from typing import Any

from .application import application
from .builder import Builder
from .resnet import ResidualOptions, add, last_gamma, shortcut


@dataclasses.dataclass
class Depth:
    """The first argument of networks of `6 n + 2` layers."""

    depth: int

    @property
    def blocks(self) -> int:
        """`n`, the number of blocks of each of the three stages.

        Raises:
            ValueError: `depth` is none of theirs.
        """
        depth = self.depth
        if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
            raise ValueError(
                "Argument `depth` must be 6 n + 2 with n of at least 1: 8, 14, 20, "
                f"... Received: depth={depth!r}"
            )
        return (depth - 2) // 6


# Fields of the last base come first, as an argument without a default has to.
@dataclasses.dataclass
class CifarOptions(ResidualOptions, Depth):
    """Of `CifarResNet`."""

    classes: int = 10


@application(CifarOptions, 32, minimum=8, name="cifar_resnet{depth}")
def CifarResNet(build: Builder) -> Any:
    """A residual network of `6 n + 2` layers (Table 5).

    A 3x3 convolution, then three stages of `n` basic blocks with 16, 32 and 64
    channels; the second and third stage halve the image. Where shapes differ the
    shortcut is a 1x1 convolution with its own normalization (option B). The paper
    gives no reduction for it; the default of Exemplar Normalization is 8, 16 and 32.

    >>> model = CifarResNet(8, classes=4, norm="bn")
    >>> model.name, model.output_shape
    ('cifar_resnet8_bn', (None, 4))

    Args:
        depth: `6 n + 2`: 8, 14, 20, ..., 56, 110.
        zero_init_last_gamma: Whether gamma starts at 0 in the last normalization of
            each block (Goyal et al. 2017).
    """
    blocks = build.options.blocks
    last = last_gamma(build)
    x = build.conv(build.images, 16, 3, name="stem", relu=True)
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            prefix = f"stage{stage}_block{block}"
            short = shortcut(build, x, filters, stride, prefix)
            x = build.conv(x, filters, 3, stride, name=f"{prefix}_1", relu=True)
            x = build.conv(x, filters, 3, name=f"{prefix}_2", **last)
            x = add(short, x, prefix)
    return x


CifarResNet20 = functools.partial(CifarResNet, 20)
CifarResNet56 = functools.partial(CifarResNet, 56)
CifarResNet110 = functools.partial(CifarResNet, 110)
for _builder in (CifarResNet20, CifarResNet56, CifarResNet110):
    (_depth,) = _builder.args
    vars(_builder).update(
        __name__=f"CifarResNet{_depth}",
        __doc__=f"`CifarResNet({_depth})` (Table 5), with the same arguments.",
    )
