"""Scores against NumPy, an image or pixel at a time."""

import keras
import numpy as np
import pytest

from keras_en.training import build, evaluation
from keras_en.training.confusion import Confusion
from keras_en.training.data import ArraySplit, Data
from keras_en.training.material import Material
from keras_en.training.recipes.recipe import load


def test_by_hand():
    """Three of four images are right; of class 0 one of two."""
    confusion = Confusion(np.array([[1, 1], [0, 2]]))
    scores = evaluation.Scores(confusion, 4, "classification")
    assert scores.metrics == {"top1": 0.75}
    assert scores.per_class.tolist() == [0.5, 1.0]
    pixels = evaluation.Scores(confusion, 1, "segmentation")
    assert pixels.metrics == {"miou": (1 / 2 + 2 / 3) / 2, "pixels": 0.75}
    assert pixels.per_class.tolist() == [1 / 2, 2 / 3]


def segmentation(rng):
    """Two images of 8x12, and a network that says what their brightness is."""
    masks = rng.integers(0, 2, (2, 8, 12)).astype("uint8")
    images = np.repeat(masks[..., None] * 255, 3, -1).astype("uint8")
    split = ArraySplit(images, masks=masks)
    data = Data(
        {"train": split, "validation": split}, ("0", "1"), "segmentation", 255, []
    )
    recipe = load("small_camvid", ["data.evaluate=[]", "data.scales=[8,16]"])
    facts = build.Facts(2, (None, None, 3), "segmentation", 255)
    inputs = keras.Input((None, None, 3))
    bright = keras.layers.Lambda(lambda x: keras.ops.mean(x, -1, keepdims=True))(inputs)
    outputs = keras.layers.Concatenate()([1 - bright, bright])
    return keras.Model(inputs, outputs), Material(recipe, data, facts, 0)


def test_several_sizes():
    """Probabilities of sizes are averaged in the size of the labels: by hand, from what
    the images are in each."""
    model, material = segmentation(np.random.default_rng(0))
    assert evaluation.evaluate(model, material).metrics == {"miou": 1.0, "pixels": 1.0}
    scores = evaluation.evaluate(model, material, scales=(4, 6))
    batches = [next(iter(material.evaluate("validation", side)))[0] for side in (4, 6)]
    maps = [keras.ops.image.resize(b, (8, 12)) for b in batches]
    mean = np.mean([keras.ops.convert_to_numpy(m).mean(-1) for m in maps], 0)
    right = (mean > 0.5) == (material.data.splits["validation"].masks == 1)
    assert scores.metrics["pixels"] == pytest.approx(right.mean())
    assert scores.metrics["pixels"] < 1, "smaller images lose pixels"


def test_what_counts_is_masks_as_they_are():
    """`resize` makes images smaller, not the truths: by hand, from the small images."""
    model, material = segmentation(np.random.default_rng(0))
    recipe = load("small_camvid", ["data.evaluate=[resize: 4]"])
    material = material._replace(recipe=recipe)
    scores = evaluation.evaluate(model, material)
    assert scores.confusion.matrix.sum() == 2 * 8 * 12
    (small, _), *_ = material.evaluate("validation")
    assert small.shape == (2, 4, 6, 3)
    mean = keras.ops.convert_to_numpy(keras.ops.image.resize(small, (8, 12))).mean(-1)
    right = (mean > 0.5) == (material.data.splits["validation"].masks == 1)
    assert scores.metrics["pixels"] == pytest.approx(right.mean())


def test_what_is_cut_is_cut_out_of_masks():
    model, material = segmentation(np.random.default_rng(0))
    steps = ["data.evaluate=[resize: 8, center_crop: 6]"]
    material = material._replace(recipe=load("small_camvid", steps))
    scores = evaluation.evaluate(model, material)
    assert scores.metrics["pixels"] == 1 and scores.confusion.matrix.sum() == 2 * 36


def test_wrong_arguments():
    model, material = segmentation(np.random.default_rng(0))
    with pytest.raises(ValueError, match="--split must be one of train, validation"):
        evaluation.evaluate(model, material, "test")
    others = material._replace(facts=material.facts._replace(classes=3))
    with pytest.raises(ValueError, match="a network of 2, data of 3"):
        evaluation.evaluate(model, others)
    kind = material._replace(facts=material.facts._replace(task="classification"))
    with pytest.raises(ValueError, match="but for segmentation"):
        evaluation.evaluate(model, kind, scales=(4,))
    with pytest.raises(ValueError, match=r"must .* to one output, \(N, classes"):
        evaluation.evaluate(model, kind)
    inputs = keras.Input((None, None, 3))
    pair = keras.Model(inputs, [model(inputs), model(inputs)])
    with pytest.raises(ValueError, match="in a list"):
        evaluation.evaluate(pair, material)
