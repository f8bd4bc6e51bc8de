"""Batches of arrays: which samples, in which order, with which augmentation."""

import threading

import numpy as np
import pytest

from keras_en.training.data import ArraySplit, Transform
from tests.training.data.pictures import together


def split(count=10, channels=1):
    """Images of one grey, which is their label."""
    images = np.arange(count, dtype="uint8").repeat(16 * channels)
    return ArraySplit(
        images.reshape(count, 4, 4, channels), np.arange(count, dtype="int32")
    )


def test_evaluation_by_hand():
    batches = split().batches(4)
    assert len(batches) == 3
    sizes = [len(labels) for _, labels in batches]
    assert sizes == [4, 4, 2]
    images, labels = together(batches)
    assert images.dtype == "float32" and labels.dtype == "int32"
    np.testing.assert_array_equal(labels, np.arange(10))
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, labels, rtol=1e-6)


def test_training_shuffles_every_epoch_and_repeats_itself():
    transform = Transform.of([{"pad_crop": 1}, "flip"])
    runs = [
        together(split().batches(4, transform, seed=seed, epoch=epoch))
        for seed, epoch in ((5, 2), (5, 2), (5, 3), (6, 2))
    ]
    for images, labels in runs:
        np.testing.assert_array_equal(np.sort(labels), np.arange(10))
        np.testing.assert_allclose(images[:, 1, 1, 0] * 255, labels, rtol=1e-6)
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert not np.array_equal(runs[0][1], runs[2][1])
    assert not np.array_equal(runs[0][1], runs[3][1])


def test_a_batch_does_not_depend_on_those_before():
    """A resumed run sees the batches that it would have seen."""
    transform = Transform.of([{"pad_crop": 1}, "flip", {"normalize": {"mean": 0.5}}])
    batches = split().batches(3, transform, seed=1, epoch=4)
    whole = list(batches)
    for number in (3, 0, 2):
        again = split().batches(3, transform, seed=1, epoch=4)[number]
        for one, other in zip(whole[number], again, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(IndexError):
        batches[4]


def test_a_limit_is_the_same_in_every_epoch():
    sets = [
        set(together(split().batches(2, seed=seed, epoch=epoch, limit=5))[1].tolist())
        for seed, epoch in ((0, 0), (0, 1), (3, 0))
    ]
    assert sets[0] == sets[1] == sets[2] and len(sets[0]) == 5
    _, labels = together(split().batches(2, limit=5))
    assert set(labels.tolist()) == sets[0]
    assert len(split().batches(2, limit=50)) == 5


def test_masks_go_along():
    masks = np.random.default_rng(0).integers(0, 3, (6, 8, 8), dtype="uint8")
    images = masks[..., None].repeat(3, 3) * 10
    data = ArraySplit(images, masks=masks)
    transform = Transform.of([{"pad_crop": 2}, "flip"], void=7)
    x, y = together(data.batches(4, transform, seed=0))
    assert y.dtype == "int32" and y.shape == (6, 8, 8) and (y == 7).any()
    np.testing.assert_array_equal(np.rint(x[..., 0] * 255)[y != 7], y[y != 7] * 10)
    with pytest.raises(ValueError, match="void"):
        data.batches(4, Transform.of([{"pad_crop": 2}]), seed=0)


def test_an_image_size():
    data = ArraySplit(np.zeros((3, 4, 6, 3), "uint8"), np.arange(3), image_size=8)
    assert data.image_shape == (8, 8, 3)
    assert together(data.batches(2))[0].shape == (3, 8, 8, 3)
    crop = Transform.of([{"center_crop": 2}])
    assert together(data.batches(2, crop))[0].shape == (3, 2, 2, 3)


def test_threads_end_with_an_iteration_that_is_left():
    before = threading.active_count()
    for _ in split().batches(1):
        break
    iterator = iter(split().batches(1))
    next(iterator)
    iterator.close()
    assert threading.active_count() == before


def test_an_error_of_a_batch_is_raised():
    data = split()
    data.labels = data.labels[:5]
    with pytest.raises(IndexError):
        list(data.batches(2))


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(batch_size=0), "batch_size"),
        (dict(batch_size=2, limit=0), "limit"),
        (dict(batch_size=2, seed=-1), "seed"),
        (dict(batch_size=2, epoch=-1), "epoch"),
        (dict(batch_size=2, transform=Transform.of(["flip"])), "seed"),
    ],
)
def test_wrong_arguments(arguments, word):
    with pytest.raises(ValueError, match=f"`{word}`"):
        split().batches(**arguments)
