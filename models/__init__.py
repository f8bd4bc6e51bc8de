"""Networks with a normalization of choice."""

from .cifar_resnet import CifarResNet, CifarResNet20, CifarResNet56, CifarResNet110
from .deeplab import DeepLabResNet50
from .inception import InceptionV2
from .preactivation_resnet import CifarPreactivationResNet
from .resnet import AAResNet50, ResNet50, ResNet101, ResNet152, SEResNet50
from .shufflenet import ShuffleNetV2
from .summary import summary_table

__all__ = [
    "AAResNet50",
    "CifarPreactivationResNet",
    "CifarResNet",
    "CifarResNet20",
    "CifarResNet56",
    "CifarResNet110",
    "DeepLabResNet50",
    "InceptionV2",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "SEResNet50",
    "ShuffleNetV2",
    "summary_table",
]
