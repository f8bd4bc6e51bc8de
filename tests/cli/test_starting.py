"""A training that begins with a network of one's own."""

import json

import keras
import numpy as np
import pytest

from keras_en.cli import starting
from keras_en.layers.normalizer_pool import NormalizerPool
from keras_en.models import CifarResNet
from keras_en.training import build
from keras_en.training.recipes import recipe as recipes

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    "norm, key, values",
    [
        ("en", "norm.exemplar.reduction", (4, 2)),
        ("sn", "norm.switchable.initial_ratios.batch", (0.9, 0.8)),
    ],
)
def test_from_a_network_with_arguments_of_the_layer(tmp_path, norm, key, values):
    before = CifarResNet(8, input_shape=(8, 8, 1), classes=10, norm="bn")
    before.save(tmp_path / "before.keras")
    start = starting.network(None, tmp_path / "before.keras")
    first, other = (
        recipes.load("digits", [f"norm.name={norm}", f"{key}={value}"])
        for value in values
    )
    model = start(first, build.Facts(10, (8, 8, 1)), 1)
    name, wanted = first.norm.own_arguments()
    layers = [layer for layer in model.layers if isinstance(layer, NormalizerPool)]
    assert len(layers) == 9
    for layer in layers:
        own = layer.get_config()
        assert {each: own[each] for each in wanted} == wanted
    model.save(tmp_path / "after.keras")
    start = starting.network(None, tmp_path / "after.keras")
    assert len(start(first, build.Facts(10, (8, 8, 1)), 1).layers) == len(model.layers)
    with pytest.raises(ValueError, match=f"{name} must be that.*Received"):
        start(other, build.Facts(10, (8, 8, 1)), 1)


def test_from_a_sequential_network(tmp_path):
    kinds = keras.layers
    layers = [kinds.Conv2D(4, 3), kinds.BatchNormalization(), kinds.Flatten()]
    before = keras.Sequential([keras.Input((8, 8, 1)), *layers, kinds.Dense(3)])
    before.save(tmp_path / "before.keras")
    start = starting.network(None, tmp_path / "before.keras")
    model = start(recipes.load("digits"), build.Facts(10, (8, 8, 1)), 1)
    assert model.output_shape == (None, 10)
    assert type(model.layers[2]).__name__ == "ExemplarNormalization"


def test_from_a_network_that_takes_other_pixels(tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    keras.Model(inputs, outputs).save(tmp_path / "before.keras")
    start = starting.network(None, tmp_path / "before.keras")
    facts = build.Facts(10, (8, 8, 1))
    with pytest.raises(ValueError, match="pixels.*0 to 255.*Received: "):
        start(recipes.load("digits"), facts, 1)
    steps = json.dumps([{"normalize": {"std": 1 / 255}}])
    recipe = recipes.load("digits", [f"data.evaluate={steps}"])
    with pytest.raises(ValueError, match="data.train and data.evaluate"):
        start(recipe, facts, 1)
    changes = [f"data.{part}={steps}" for part in ("train", "evaluate")]
    recipe = recipes.load("digits", changes)
    assert start(recipe, facts, 1).output_shape == (None, 10)


def test_from_a_network_of_the_same_norm(tmp_path):
    """It is trained on as it is."""
    before = CifarResNet(8, input_shape=(8, 8, 1), classes=10, norm="bn")
    before.save(tmp_path / "before.keras")
    recipe = recipes.load("digits", ["norm.name=bn"])
    start = starting.network(None, tmp_path / "before.keras")
    facts = build.Facts(10, (8, 8, 1))
    model = start(recipe, facts, 1)
    assert [type(a) for a in model.layers] == [type(b) for b in before.layers]
    for a, b in zip(model.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
