"""The networks that tests of several files build."""

import functools

import keras

from keras_en.models import (
    AAResNet50,
    CifarResNet,
    DeepLabResNet50,
    InceptionV2,
    ResNet50,
    SEResNet50,
    ShuffleNetV2,
)

# One of each kind.
NETWORKS = {
    "cifar_resnet8": functools.partial(CifarResNet, 8),
    "shufflenet_v2_x0.5": functools.partial(ShuffleNetV2, width=0.5),
    "resnet50": ResNet50,
    "se_resnet50": SEResNet50,
    "aa_resnet50": AAResNet50,
    "deeplab_resnet50": DeepLabResNet50,
    "inception_v2": InceptionV2,
}


def outline(builder, **kwargs):
    """A model whose weights have shapes but no values, in a fifth of the time."""
    with keras.StatelessScope(initialize_variables=False):
        return builder(**kwargs)


def names(model):
    return [layer.name for layer in model.layers]


def norms(model):
    return [layer for layer in model.layers if layer.name.endswith("_norm")]
