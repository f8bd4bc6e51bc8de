"""Every recipe as a network, of weights without values."""

import math

import numpy as np
import pytest

from keras_en.training import build
from keras_en.training.build import Facts
from keras_en.training.recipes.recipe import load, names
from tests.backends import numpy
from tests.models.networks import outline

# The classes of the data that recipes are for; of images of one's own any number.
CLASSES = {
    **dict.fromkeys(("digits", "images", "cifar10", "small_cifar10"), 10),
    **{"small_cifar10n": 10, "cifar100": 100, "imagenet": 1000, "webvision": 1000},
    **{"small_tinyimagenet": 20, "ade20k": 150, "cityscapes": 19, "small_camvid": 11},
}


def facts_of(recipe):
    base = recipe.name
    while base not in CLASSES:
        base = base.rpartition("_")[0]
    classes = CLASSES[base]
    if recipe.network.name.startswith("DeepLab"):
        return Facts(classes, (None, None, 3), "segmentation", 255)
    size = recipe.data.image_size or (8 if recipe.name == "digits" else 32)
    channels = 1 if recipe.name == "digits" else 3
    return Facts(classes, (size, size, channels), labels=np.arange(classes))


def trainable(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def normalizations(model):
    return [v for v in model.trainable_variables if v.name == "gamma"]


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_recipe_builds(name):
    """Network, optimizer, schedule and loss, of weights without values."""
    recipe = load(name)
    data = facts_of(recipe)
    model = outline(build.network, recipe=recipe, data=data, steps=100)
    build.compiled(model, recipe, data, steps_per_epoch=100)
    outputs = model.output
    if isinstance(outputs, dict):
        assert list(outputs) == ["main", "auxiliary"] == list(model.loss)
        shape = (2, 48, 64, data.classes)
        shapes = model.compute_output_shape((2, 48, 64, 3))
        assert shapes == {"main": shape, "auxiliary": shape}
    else:
        assert outputs.shape == (None, data.classes)
    timing = recipe.schedule
    rate = model.optimizer.learning_rate
    begins = 0 if timing.warmup else recipe.optimizer.learning_rate
    assert float(numpy(rate)) == pytest.approx(begins)
    model.optimizer.iterations.assign(timing.steps(100) - 1)
    rate = float(numpy(model.optimizer.learning_rate))
    assert 0 < rate < recipe.optimizer.learning_rate


@pytest.mark.parametrize(
    "name, channels, layers",
    [
        ("cifar10_resnet20", 6 * 16 + 16 + 7 * 32 + 7 * 64, 21),
        ("imagenet_resnet50", 26_560, 53),
        ("imagenet_shufflenet", 3_976, 56),
        ("webvision_inception", 10_016, 69),
    ],
)
def test_parameters_of_exemplar_normalization(name, channels, layers):
    """`2 K C + C + Psi(K)` of each layer, and not the `2 C` of batch normalization."""
    counts = []
    for norm in ("en", "bn"):
        recipe = load(name, [f"norm.name={norm}"])
        model = outline(build.network, recipe=recipe, data=facts_of(recipe), steps=100)
        counts.append(trainable(model))
        gammas = normalizations(model)
        assert len(gammas) == layers
        assert sum(v.shape[-1] for v in gammas) == channels
    assert counts[0] == counts[1] + 5 * channels + 1953 * layers


# Tables 2 and 3, in millions; of EN the paper's totals do not follow from its formula.
PAPER = {
    ("imagenet_resnet50", "bn"): 25.56,
    ("imagenet_resnet50", "gn"): 25.56,
    ("imagenet_resnet50", "sn"): 25.56,
    ("imagenet_resnet50", "ssn"): 25.56,
    ("imagenet_shufflenet", "bn"): 1.37,
    ("imagenet_shufflenet", "sn"): 1.37,
    ("imagenet_shufflenet", "ssn"): 1.37,
    ("webvision_resnet50", "bn"): 25.56,
    ("webvision_inception", "bn"): 11.29,
}


@pytest.mark.parametrize("name, norm", PAPER)
def test_parameters_of_the_paper(name, norm):
    recipe = load(name, [f"norm.name={norm}"])
    model = outline(build.network, recipe=recipe, data=facts_of(recipe), steps=100)
    assert round(trainable(model) / 1e6, 2) == PAPER[name, norm]
