"""Networks with a normalization of choice."""

from .cifar_resnet import CifarResNet

__all__ = ["CifarResNet"]
