"""Networks without a mixture of every image's own."""

import importlib
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_en
from keras_en.models import CifarResNet
from keras_en.training.recipes.recipe import load

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parents[2]


@pytest.fixture
def mixtures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "accuracy")
    return importlib.import_module("mixtures")


def test_mean_ratios_in_the_place_of_own_ones(mixtures, rng, tmp_path):
    initial = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    kinds = {"ratio_initializer": initial, "expansion": 4}
    model = CifarResNet(8, input_shape=(8, 8, 1), classes=10, norm_kwargs=kinds)
    for layer in keras_en.analysis.collect.exemplar_layers(model).values():
        kernel = layer.ratio_output_kernel
        kernel.assign(rng.normal(size=kernel.shape))
    model.save(tmp_path / "model.keras")
    recipe = load("digits", ["norm.name=en"]).to_yaml()
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    values = {(layer, what): v for layer, what, v in mixtures.measure(tmp_path, 256)}
    assert values["", "images"] == 256
    assert values["stage3_block1_2", "within"] > 0.01
    shares = [values["stem", name] for name in ("instance", "layer", "batch")]
    assert sum(shares) == pytest.approx(1)

    x = rng.normal(size=(64, 8, 8, 1)).astype("float32")
    before = keras_en.analysis.collect_ratios(model, x, verbose=0)
    mixtures.give_all_the_same(model, before)
    after = keras_en.analysis.collect_ratios(model, x, verbose=0)
    for path, ratios in after.items():
        assert np.ptp(before[path], axis=0).max() > 1e-4
        wanted = np.broadcast_to(before[path].mean(axis=0), ratios.shape)
        np.testing.assert_allclose(ratios, wanted, atol=1e-6)
