"""What a recipe makes of its data."""

import numpy as np
import pytest

from keras_en.training.material import material
from keras_en.training.recipes.recipe import load


def test_what_is_held_out_is_not_trained_on():
    """57 of digits' 1,257 training images, of every class its share."""
    whole = material(load("digits")).data.splits["train"]
    held = material(load("digits", ["data.hold_out=57"]))
    assert list(held.data.splits) == ["train", "validation"]
    assert held.images == 1200 and held.split() == held.validation == "validation"
    ours = held.data.splits["validation"]
    assert set(np.bincount(ours.labels, minlength=10)) <= {5, 6}

    def rows(split):
        return [
            (x.tobytes(), y) for x, y in zip(split.images, split.labels, strict=True)
        ]

    parts = [rows(each) for each in held.data.splits.values()]
    assert sorted(parts[0] + parts[1]) == sorted(rows(whole))
    images, labels = next(iter(held.evaluate("validation")))
    assert len(images) == len(labels) == 57


@pytest.mark.parametrize("changes", [["57", "1201"], ["1257", "null"]])
def test_more_than_there_is(changes):
    hold_out, limit = changes
    recipe = load("digits", [f"data.hold_out={hold_out}", f"data.limit_train={limit}"])
    with pytest.raises(ValueError, match="hold_out.*less than the 1257"):
        material(recipe)
