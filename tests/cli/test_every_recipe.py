"""`keras-en train RECIPE --dry-run`, each on generated images."""

import re

import numpy as np
import pytest

from keras_en import cli
from keras_en.training.recipes.recipe import load, names
from tests.training.recipes.test_every_recipe import facts_of

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
# Height and width of images in files; what a batch of them has.
SIZES = {"imagenet": (40, 48), "webvision": (40, 48), "images": (40, 48)}
BATCHES = {
    **{"digits": (64, 8, 8, 1), "images": (32, 160, 160, 3)},
    **{"imagenet_resnet50": (128, 224, 224, 3), "ade20k_deeplab": (16, 600, 600, 3)},
    **{"small_camvid": (8, 96, 96, 3), "cifar10_resnet20": (128, 32, 32, 3)},
}


def written(path, recipe):
    """Images of every class, or masks with every class."""
    facts, rng = facts_of(recipe), np.random.default_rng(0)
    if facts.task == "segmentation":
        masks = rng.integers(0, facts.classes, (24, 40, 48), dtype="uint8")
        masks.reshape(24, -1)[:, : facts.classes] = np.arange(facts.classes)
        images = rng.integers(0, 256, (24, 40, 48, 3), dtype="uint8")
        np.savez(path, train_images=images, train_masks=masks, void_label=255)
        return
    size = SIZES.get(recipe.name.split("_")[0], (32, 32))
    labels = np.arange(max(128, 2 * facts.classes)) % facts.classes
    images = np.zeros((len(labels), *size, 3), "uint8")
    arrays = {"train_images": images, "train_labels": labels}
    np.savez(path, **arrays, test_images=images[:8], test_labels=labels[:8])


@pytest.mark.parametrize("name", names())
def test_says_what_would_be_trained(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = load(name)
    words = ["train", name, "--dry-run"]
    if name != "digits":
        written(tmp_path / "data.npz", recipe)
        words += ["--data", "npz:data.npz"]
    if recipe.data.labels is not None:
        words += ["--set", "data.labels=null"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    batch = tuple(map(int, re.search(r"images \((.*?)\)", text)[1].split(", ")))
    assert batch == BATCHES.get(name, batch) and batch[0] <= recipe.data.batch_size
    size = recipe.data.image_size
    assert size is None or batch[1:3] == (size, size)
    assert f"{facts_of(recipe).classes} classes" in text
    unit = recipe.schedule.unit
    assert unit == "steps" or f" {recipe.schedule.duration:g} epochs" in text
    assert not list(tmp_path.glob("runs*"))
