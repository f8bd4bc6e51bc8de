"""Trainable parameters, at the default size of the images."""

import functools
import math

import pytest
from keras.initializers import Zeros

from keras_en.models import (
    AAResNet50,
    CifarResNet,
    DeepLabResNet50,
    InceptionV2,
    ResNet50,
    ResNet101,
    ResNet152,
    SEResNet50,
    ShuffleNetV2,
)
from tests.models.networks import names, norms, outline

# Builder, size, parameters with batch normalization, normalizations.
PLAIN = {
    # convolutions 432 + 4,608 + 14,336 + 57,344; dense 650; 2 * 336 of the norms
    "cifar_resnet8": (functools.partial(CifarResNet, 8), 32, 78_042, 9),
    # He et al. 2016; torchvision's resnet50, 101 and 152
    "resnet50": (ResNet50, 224, 25_557_032, 53),
    "resnet101": (ResNet101, 224, 44_549_160, 104),
    "resnet152": (ResNet152, 224, 60_192_808, 155),
    "se_resnet50": (SEResNet50, 224, 28_088_024, 53),  # Hu et al. 2018: 28.1 M
    "aa_resnet50": (AAResNet50, 224, 25_813_872, 53),  # Bello et al. 2019: 25.8 M
    # 23,508,032 of ResNet-50 without its dense layer, and 19 * 2,049
    "deeplab_resnet50": (DeepLabResNet50, 512, 23_546_963, 53),
    "inception_v2": (InceptionV2, 224, 11_285_224, 69),  # Table 3: 11.29 M
    # Ma et al. 2018; torchvision's shufflenet_v2_x0_5 to x2_0
    "shufflenet_v2_x0.5": (
        functools.partial(ShuffleNetV2, width=0.5),
        224,
        1_366_792,
        56,
    ),
    "shufflenet_v2_x1.0": (ShuffleNetV2, 224, 2_278_604, 56),
    "shufflenet_v2_x1.5": (
        functools.partial(ShuffleNetV2, width=1.5),
        224,
        3_503_624,
        56,
    ),
    "shufflenet_v2_x2.0": (
        functools.partial(ShuffleNetV2, width=2.0),
        224,
        7_393_996,
        56,
    ),
}


def trainable(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def test_eight_layers_by_hand():
    """`2 K C + C + Psi(K)` a layer, `Psi(3) = 1953`: 2065 with 16 channels."""
    en, bn = (outline(CifarResNet, depth=8, norm=norm) for norm in ("en", "bn"))
    counts = [
        sum(math.prod(v.shape) for v in model.trainable_variables) for model in (en, bn)
    ]
    channels = [16] * 3 + [32] * 3 + [64] * 3
    assert counts[0] - counts[1] == sum(7 * c + 1953 - 2 * c for c in channels)


@pytest.fixture(scope="module", params=PLAIN)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def plain(name):
    kwargs = {"zero_init_last_gamma": True} if "resnet" in name else {}
    return outline(PLAIN[name][0], norm="bn", **kwargs)


def test_published_numbers(plain, name):
    _, size, parameters, layers = PLAIN[name]
    assert plain.name == f"{name}_bn"
    assert plain.input_shape == (None, size, size, 3)
    assert trainable(plain) == parameters
    assert len(norms(plain)) == layers


@pytest.mark.parametrize("classes", [19, 150])
def test_heads_of_deeplab(classes):
    """A 3x3 convolution and its gamma and beta more, and a second head on stage 3."""
    kwargs = {"norm": "bn", "classes": classes, "head": "fcn"}
    predictions = 513 * classes
    head = trainable(outline(DeepLabResNet50, **kwargs))
    assert head == 23_508_032 + 9 * 2048 * 512 + 2 * 512 + predictions
    both = outline(DeepLabResNet50, auxiliary=True, **kwargs)
    assert trainable(both) == head + 9 * 1024 * 512 + 2 * 512 + predictions
    assert len(norms(both)) + len(norms(both.get_layer("auxiliary_head"))) == 55


def test_zero_init_last_gamma(plain, name):
    """In the last normalization of each block and in no other."""
    if "resnet" not in name:
        pytest.skip("no residual network")
    last = "2_norm" if name.startswith("cifar") else "3_norm"
    ends = [n for n in names(plain) if "block" in n and n.endswith(last)]
    assert len(ends) == sum(n.endswith("_add") for n in names(plain))
    zeros = [n.name for n in norms(plain) if type(n.gamma_initializer) is Zeros]
    assert zeros == ends


@pytest.mark.thorough(4)
@pytest.mark.parametrize("norm", ["en", "sn"])
def test_what_other_normalizations_add(plain, name, norm):
    """EN: 7 C + 1,953 and SN: 2 C + 6 in place of the 2 C of BN."""
    builder, _, parameters, layers = PLAIN[name]
    channels = sum(math.prod(layer.gamma.shape) for layer in norms(plain))
    more = {"en": 5 * channels + 1953 * layers, "sn": 6 * layers}[norm]
    assert trainable(outline(builder, norm=norm)) == parameters + more
