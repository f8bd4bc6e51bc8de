"""Inception v2, the network of Batch Normalization (Ioffe & Szegedy 2015)."""

from keras import layers

from .application import application

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


@application(224, name="inception_v2")
def InceptionV2(build):
    """Inception v2 (Table 3), also called BN-Inception: 69 normalizations.

    With "en" the reduction is 16, as in Sec. 4.2, unless it is given.
    """
    build.default_reduction(16)
    x = build.conv(build.images, 64, 7, 2, name="stem_1", relu=True)
    x = build.max_pool(x, "stem_pool_1")
    x = build.conv(x, 64, 1, name="stem_2", relu=True)
    x = build.conv(x, 192, 3, name="stem_3", relu=True)
    x = build.max_pool(x, "stem_pool_2")
    for name, block in BLOCKS.items():
        x = _block(build, x, f"block{name}", *block)
    return x


def _block(build, x, prefix, single, middle, double, pooled):
    stride = 1 if single else 2
    branches = []
    if single:
        branches.append(build.conv(x, single, 1, name=f"{prefix}_1", relu=True))
    for branch, (first, *others) in enumerate((middle, double), start=2):
        y = build.conv(x, first, 1, name=f"{prefix}_{branch}_1", relu=True)
        for i, filters in enumerate(others, start=2):
            y = build.conv(
                y,
                filters,
                3,
                stride if i == len(others) + 1 else 1,
                name=f"{prefix}_{branch}_{i}",
                relu=True,
            )
        branches.append(y)
    kind, filters = pooled
    if stride > 1:
        branches.append(build.max_pool(x, f"{prefix}_4_pool"))
    else:
        pool = {"avg": layers.AveragePooling2D, "max": layers.MaxPooling2D}[kind]
        y = pool(3, 1, "same", name=f"{prefix}_4_pool")(x)
        branches.append(build.conv(y, filters, 1, name=f"{prefix}_4", relu=True))
    return layers.Concatenate(build.axis, name=f"{prefix}_concat")(branches)
