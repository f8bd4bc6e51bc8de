"""Inception v2, the network of Batch Normalization (Ioffe & Szegedy 2015)."""

from typing import Any

from keras import layers

from .application import Options, application
from .builder import Builder

# 1x1; 1x1 and 3x3; 1x1, 3x3 and 3x3; the pooling and its 1x1. Without the first and
# the last the block halves the image. The numbers are those of the Caffe model that
# later work measures, which differ from the paper's table in 4a to 4e.
BLOCKS = {
    "3a": (64, (64, 64), (64, 96, 96), ("avg", 32)),
    "3b": (64, (64, 96), (64, 96, 96), ("avg", 64)),
    "3c": (None, (128, 160), (64, 96, 96), ("max", None)),
    "4a": (224, (64, 96), (96, 128, 128), ("avg", 128)),
    "4b": (192, (96, 128), (96, 128, 128), ("avg", 128)),
    "4c": (160, (128, 160), (128, 160, 160), ("avg", 128)),
    "4d": (96, (128, 192), (160, 192, 192), ("avg", 128)),
    "4e": (None, (128, 192), (192, 256, 256), ("max", None)),
    "5a": (352, (192, 320), (160, 224, 224), ("avg", 128)),
    "5b": (352, (192, 320), (192, 224, 224), ("max", 128)),
}


@application(Options, 224, name="inception_v2")
def InceptionV2(build: Builder) -> Any:
    """Inception v2 (Table 3), also called BN-Inception: 69 normalizations.

    With "en" the reduction is 16, as in Sec. 4.2, unless it is given.

    >>> InceptionV2(norm="bn").output_shape
    (None, 1000)
    """
    build.default_reduction(16)
    x = build.conv(build.images, 64, 7, 2, name="stem_1", relu=True)
    x = build.max_pooling(x, "stem_pool_1")
    x = build.conv(x, 64, 1, name="stem_2", relu=True)
    x = build.conv(x, 192, 3, name="stem_3", relu=True)
    x = build.max_pooling(x, "stem_pool_2")
    for name, block in BLOCKS.items():
        x = _block(build, x, f"block{name}", *block)
    return x


def _block(build, x, prefix, single, middle, double, pooling):
    stride = 1 if single else 2
    branches = []
    if single:
        branches.append(build.conv(x, single, 1, name=f"{prefix}_1", relu=True))
    branches.append(_branch(build, x, middle, stride, f"{prefix}_2"))
    branches.append(_branch(build, x, double, stride, f"{prefix}_3"))
    branches.append(_pooled(build, x, *pooling, stride, f"{prefix}_4"))
    return layers.Concatenate(build.axis, name=f"{prefix}_concat")(branches)


def _branch(build, x, filters, stride, prefix):
    """A 1x1 convolution and 3x3 ones, the last of which has the stride."""
    first, *others = filters
    x = build.conv(x, first, 1, name=f"{prefix}_1", relu=True)
    for i, count in enumerate(others, start=2):
        last = i == len(filters)
        name = f"{prefix}_{i}"
        x = build.conv(x, count, 3, stride if last else 1, name=name, relu=True)
    return x


def _pooled(build, x, kind, filters, stride, prefix):
    if stride > 1:
        return build.max_pooling(x, f"{prefix}_pool")
    pooling = {"avg": layers.AveragePooling2D, "max": layers.MaxPooling2D}[kind]
    x = pooling(3, 1, "same", name=f"{prefix}_pool")(x)
    return build.conv(x, filters, 1, name=prefix, relu=True)
