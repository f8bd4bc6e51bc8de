"""Data sets: the digits and their batches."""

import numpy as np
import pytest

from keras_en.training import batches, digits
from keras_en.training.data.digits import Split


@pytest.mark.tensorflow
def test_batches_by_hand():
    """Three images of one pixel, which is their label, two a batch."""
    images = np.array([1.0, 2.0, 3.0], "float32").reshape(3, 1, 1, 1)
    split = Split(images, np.array([1, 2, 3]))
    both = [(x.numpy().ravel(), labels.numpy()) for x, labels in batches(split, 2)]
    assert [len(labels) for _, labels in both] == [2, 1]
    assert sorted(np.concatenate([labels for _, labels in both])) == [1, 2, 3]
    for pixels, labels in both:
        np.testing.assert_array_equal(pixels, labels)


def test_digits_are_split_without_overlap():
    data = digits(seed=1)
    assert {name: len(part.labels) for name, part in data.items()} == {
        "train": 1257,
        "validation": 180,
        "test": 360,
    }
    seen = np.concatenate([part.images for part in data.values()])
    # scikit-learn's own 1,797 images, each in one split
    from sklearn.datasets import load_digits

    original = (load_digits().images / 16).astype("float32").reshape(1797, -1)
    rows = np.sort(seen.reshape(1797, -1).view("V256"), axis=0)
    np.testing.assert_array_equal(rows, np.sort(original.view("V256"), axis=0))
    assert seen.min() == 0 and seen.max() == 1
    for part in data.values():
        counts = np.bincount(part.labels, minlength=10)
        assert counts.min() / counts.max() > 0.9, "stratified"


def test_the_seed_decides_the_split():
    one, same, other = digits(0), digits(0), digits(1)
    np.testing.assert_array_equal(one["test"].labels, same["test"].labels)
    assert (one["test"].labels != other["test"].labels).any()


@pytest.mark.tensorflow
def test_batches_are_the_shifted_images():
    part = digits()["validation"]
    plain = list(batches(part, 64, seed=3))
    assert [len(labels) for _, labels in plain] == [64, 64, 52]
    shifted = list(batches(part, 64, seed=3, shift=1))
    for (x, labels), (y, same) in zip(plain, shifted, strict=True):
        np.testing.assert_array_equal(labels, same)
        for before, after in zip(x.numpy()[..., 0], y.numpy()[..., 0], strict=True):
            padded = np.pad(before, 1)
            moves = [padded[i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
            assert any(np.array_equal(after, move) for move in moves)
