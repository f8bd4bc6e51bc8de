"""Networks with a normalization of choice."""

from .cifar_resnet import CifarResNet
from .resnet import ResNet50

__all__ = ["CifarResNet", "ResNet50"]
