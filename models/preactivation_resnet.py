"""Residual networks for small images whose blocks begin with a normalization (He et al.
2016, "Identity mappings"), and the prediction of Batch Kalman Normalization in them.
"""

import dataclasses
from typing import Any, ClassVar

from keras import layers

from keras_en.layers import BatchKalmanNormalization, KalmanMoments, KalmanSample

from .application import Options, application
from .builder import Builder, at_least_float32, chained
from .cifar_resnet import Depth
from .norms import NAMES


@dataclasses.dataclass
class PreactivationOptions(Options, Depth):
    """Of `CifarPreactivationResNet`."""

    classes: int = 10
    norms: ClassVar[tuple[str, ...]] = (*NAMES, "bkn")


@application(
    PreactivationOptions, 32, minimum=8, name="cifar_preactivation_resnet{depth}"
)
def CifarPreactivationResNet(build: Builder) -> Any:
    """A residual network of `6 n + 2` layers with normalization and ReLU before each
    convolution (Table 1, row BKN).

    A 3x3 convolution, three stages of `n` blocks with 16, 32 and 64 channels, of which
    the second and third halve the image, a last normalization and ReLU. The shortcut is
    the block's input; where shapes differ, a 1x1 convolution of what the first
    convolution reads.

    With `norm="bkn"` every `keras_en.BatchKalmanNormalization` but the first gets a
    prediction of its moments: those of images that are drawn from the moments of the
    normalization before and go through the same convolution. Behind a block the means
    and the variances of both branches are added; the shortcut's are those of the first
    normalization, or, of a convolution, those that it makes of the same images. The
    authors: `norm_kwargs={"split": 64, "p": 0.9}` for 128 images in micro-batches of 2,
    `{"p": 0.05}` for all of them in one. `split` has to divide every batch of training.
    In inference nothing is drawn.

    >>> model = CifarPreactivationResNet(8, norm="bkn", norm_kwargs={"split": 2})
    >>> model.name, model.output_shape
    ('cifar_preactivation_resnet8_bkn', (None, 10))

    Args:
        depth: `6 n + 2`: 8, 14, 20, ..., 56, 110.
    """
    kind = _Kalman if build.options.norm == "bkn" else _Plain
    x = kind(build, build.convolution(build.images, 16, 3, name="stem"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, build.options.blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(x, filters, stride, f"stage{stage}_block{block}")
    return x.normalized("last").x


def _block(x, filters, stride, prefix):
    inner = x.normalized(f"{prefix}_1")
    # The moments that the normalization has seen stand for those of its input.
    short = x.with_moments_of(inner)
    if stride > 1:
        short = inner.convolved(filters, 1, stride, f"{prefix}_shortcut")
    inner = inner.convolved(filters, 3, stride, f"{prefix}_1")
    inner = inner.normalized(f"{prefix}_2").convolved(filters, 3, 1, f"{prefix}_2")
    return short.plus(inner, f"{prefix}_add")


class _Plain:
    """Feature maps `x` of a network that predicts nothing."""

    def __init__(self, build, x):
        self.build, self.x = build, x

    def normalized(self, name):
        """Behind normalization and ReLU."""
        x = self.build.norm(self.x, f"{name}_norm")
        return _Plain(self.build, layers.ReLU(name=f"{name}_relu")(x))

    def with_moments_of(self, other):
        return self

    def convolved(self, filters, size, stride, name):
        """Behind a convolution."""
        x = self.build.convolution(self.x, filters, size, stride, name=name)
        return _Plain(self.build, x)

    def plus(self, other, name):
        return _Plain(self.build, layers.Add(name=name)([self.x, other.x]))


class _Kalman:
    """Feature maps with their moments, and images that stand for them.

    - `x`: the feature maps.
    - `moments`: pair of `(split, C)`: a prediction of those of `x`, or, behind a
      normalization, those that it has used; `None` where there are none.
    - `image`: behind a normalization, what has been drawn from its moments.
    """

    def __init__(self, build, x, moments=None, image=None):
        self.build, self.x, self.moments, self.image = build, x, moments, image

    def normalized(self, name):
        """Behind normalization and ReLU, with an image drawn from its moments."""
        axis, kwargs = self.build.axis, self.build.norm_kwargs
        norm = BatchKalmanNormalization(axis=axis, name=f"{name}_norm", **kwargs)
        y, moments = norm(self.x, prediction=self.moments, return_moments=True)
        y = layers.ReLU(name=f"{name}_relu")(y)
        image = None
        if name != "last":
            image = KalmanSample(axis, name=f"{name}_sample")(y, moments)
        return _Kalman(self.build, y, moments, image)

    def with_moments_of(self, other):
        """The same feature maps, with the moments of another."""
        return _Kalman(self.build, self.x, other.moments)

    def convolved(self, filters, size, stride, name):
        """Behind a convolution, which the image goes through, too."""
        parts = self.build.convolution_layers(filters, size, stride, name=name)
        image = chained(parts, self.image)
        moments = KalmanMoments(self.build.axis, name=f"{name}_moments")(image)
        return _Kalman(self.build, chained(parts, self.x), moments)

    def plus(self, other, name):
        """Means add, variances add."""
        x = layers.Add(name=name)([self.x, other.x])
        moments = tuple(
            layers.Add(name=f"{name}_{kind}", dtype=at_least_float32())(pair)
            for kind, *pair in zip(
                ("mean", "variance"), self.moments, other.moments, strict=True
            )
        )
        return _Kalman(self.build, x, moments)
