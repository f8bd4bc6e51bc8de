"""Files of arrays."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_en.training.data import ArraySplit, EncodedSplit, load
from tests.training.data.pictures import encoded, packed, picture, real, together


def save(path, **arrays):
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.mark.parametrize("names", ["x_{}, y_{}", "{}_images, {}_labels"])
def test_plain_arrays(tmp_path, rng, names):
    arrays = {}
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        x, y = names.format(split, split).split(", ")
        arrays[x] = rng.integers(0, 256, (count, 4, 4, 3), dtype="uint8")
        arrays[y] = (np.arange(count) % 3)[:, None]
    data = load(save(tmp_path / "a.npz", **arrays))
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 6,
        "validation": 3,
        "test": 4,
    }
    assert data.class_names == ("0", "1", "2") and data.task == "classification"
    assert data.void is None and data.skipped == []
    split = data.splits["test"]
    assert split.labels.dtype == "int32" and split.image_shape == (4, 4, 3)
    np.testing.assert_array_equal(split.images, arrays[x])


def test_grey_arrays_get_a_channel_and_a_validation_split(tmp_path):
    images = np.zeros((20, 4, 4), "uint8")
    source = save(tmp_path / "a.npz", x_train=images, y_train=np.arange(20) % 2)
    data = load(source, seed=1)
    assert data.splits["train"].image_shape == (4, 4, 1)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 16,
        "validation": 4,
    }
    np.testing.assert_array_equal(np.bincount(data.splits["validation"].labels), [2, 2])


def packed_file(path, files, **arrays):
    data, offsets = packed(files)
    labels = np.arange(len(files)) % 2
    return save(
        path,
        **{
            "train_jpeg": data,
            "train_offsets": offsets,
            "train_labels": labels,
            "val_jpeg": data,
            "val_offsets": offsets,
            "val_labels": labels,
            "class_names": np.array(["cat", "dog"]),
            **arrays,
        },
    )


def test_packed_jpeg_is_decoded_once(tmp_path, rng):
    files = [encoded(picture(rng)) for _ in range(4)]
    data = load(packed_file(tmp_path / "a.npz", files))
    split = data.splits["train"]
    assert isinstance(split, ArraySplit) and data.class_names == ("cat", "dog")
    for file, image in zip(files, split.images, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(file))))


@pytest.mark.tensorflow
def test_packed_jpeg_of_different_sizes(tmp_path, rng):
    files = [encoded(picture(rng, height)) for height in (12, 14, 12, 16)]
    data = load(packed_file(tmp_path / "a.npz", files), image_size=10)
    split = data.splits["train"]
    assert isinstance(split, EncodedSplit) and split.image_shape == (10, 10, 3)
    images, labels = together(split.batches(3))
    assert images.shape == (4, 10, 10, 3)
    np.testing.assert_array_equal(labels, [0, 1, 0, 1])


def test_broken_images_are_named_or_left_out(tmp_path, rng):
    files = [encoded(picture(rng)) for _ in range(6)]
    files[1], files[4] = files[1][:-20], b""
    source = packed_file(tmp_path / "a.npz", files)
    with pytest.raises(ValueError) as error:
        load(source)
    text = str(error.value)
    assert "2 of 6" in text and "train_jpeg[1]: truncated" in text
    assert "train_jpeg[4]: empty" in text and "--skip-broken" in text
    data = load(source, skip_broken=True)
    assert len(data.splits["train"]) == 4 and len(data.skipped) == 4
    np.testing.assert_array_equal(data.splits["train"].labels, [0, 0, 1, 1])
    assert "val_jpeg[1]: truncated" in data.skipped[2]


def test_masks_and_void(tmp_path, rng):
    masks = rng.integers(0, 3, (4, 6, 6))
    masks[:, 0, :3], masks[0, 5, 5] = [0, 1, 2], 3
    source = save(
        tmp_path / "a.npz",
        train_images=np.zeros((4, 6, 6, 3), "uint8"),
        train_masks=masks,
        val_images=np.zeros((4, 6, 6, 3), "uint8"),
        val_masks=masks,
        void_label=3,
        class_names=np.array(["a", "b", "c", "none"]),
    )
    data = load(source)
    assert data.task == "segmentation" and data.void == 3
    assert data.class_names == ("a", "b", "c")
    split = data.splits["train"]
    assert split.labels is None
    np.testing.assert_array_equal(together(split.batches(3))[1], masks)


def test_void_among_the_classes_moves_behind_them(tmp_path):
    masks = np.tile(np.array([[0, 1], [2, 255]], "uint8"), (4, 1, 1))
    images = np.zeros((4, 2, 2, 3), "uint8")
    names = np.array(["void", "a", "b"])
    source = save(
        tmp_path / "a.npz",
        train_images=images,
        train_masks=masks,
        void_label=0,
        class_names=names,
    )
    data = load(source)
    assert data.class_names == ("a", "b") and data.void == 255
    _, labels = next(iter(data.splits["train"].batches(1)))
    np.testing.assert_array_equal(labels, [[[255, 0], [1, 255]]])


IMAGES, LABELS = np.zeros((4, 2, 2, 3), "uint8"), np.array([0, 1, 0, 1])
MASKS = np.tile(np.array([[0, 1], [2, 5]], "uint8"), (4, 1, 1))


@pytest.mark.parametrize(
    "arrays, words",
    [
        (dict(a=LABELS), ["x_train", "Received: a"]),
        (dict(x_train=IMAGES), ["must hold y_train"]),
        (dict(x_train=IMAGES / 255, y_train=LABELS), ["uint8", "float64"]),
        (dict(x_train=IMAGES[0, 0], y_train=LABELS), ["(2, 3)"]),
        (dict(x_train=IMAGES, y_train=LABELS[:3]), ["as many labels", "3 and 4"]),
        (dict(x_train=IMAGES, y_train=LABELS / 1), ["integers", "float64"]),
        (dict(x_train=IMAGES, y_train=LABELS - 1), ["from 0 to 0", "-1 at 0 of train"]),
        (dict(x_train=IMAGES, y_train=2 * LABELS), ["every class", "none of 1"]),
        (dict(x_train=IMAGES, y_train=0 * LABELS), ["two classes"]),
        (dict(x_train=IMAGES, y_train=10**9 * LABELS), ["label 1000000000"]),
        (dict(x_train=IMAGES[:0], y_train=LABELS[:0]), ["none for train"]),
        (
            dict(x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS + 1),
            ["from 0 to 1", "2 at 1 of test"],
        ),
        (
            dict(x_train=IMAGES, y_train=LABELS, class_names=np.array(["a", "b", "c"])),
            ["none of c"],
        ),
        (dict(x_train=np.array([{}]), y_train=LABELS), ["x_train"]),
        (
            dict(train_images=IMAGES, train_masks=MASKS[:, :1]),
            ["(4, 2, 2)", "(4, 1, 2)"],
        ),
        (dict(train_images=IMAGES, train_masks=MASKS), ["none of 3, 4"]),
        (
            dict(
                train_images=IMAGES,
                train_masks=MASKS,
                class_names=np.array(["a", "b", "c"]),
            ),
            ["0 to 2", "5 in the mask of", "train_images[0]"],
        ),
        (
            dict(train_images=IMAGES, train_masks=MASKS // 5 * 255),
            ["two classes", "255 in a mask is no class"],
        ),
        (
            dict(
                train_jpeg=IMAGES.ravel(),
                train_offsets=np.array([0, 4, 2]),
                train_labels=LABELS[:2],
            ),
            ["train_offsets", "where each image begins"],
        ),
        (
            dict(
                train_jpeg=IMAGES.ravel(),
                train_offsets=np.array([0, 4, 2000]),
                train_labels=LABELS[:2],
            ),
            ["train_offsets"],
        ),
    ],
)
def test_wrong_files(tmp_path, arrays, words):
    with pytest.raises(ValueError) as error:
        load(save(tmp_path / "a.npz", **arrays))
    text = str(error.value)
    assert "a.npz" in text and "Received: " in text and "\n" not in text
    for word in words:
        assert word in text


def test_files_that_are_none(tmp_path):
    whole = tmp_path / "whole.npz"
    save(whole, x_train=IMAGES, y_train=LABELS)
    data = whole.read_bytes()
    (tmp_path / "half.npz").write_bytes(data[: len(data) // 2])
    damaged = bytearray(data)
    damaged[150:200] = bytes(50)
    (tmp_path / "damaged.npz").write_bytes(bytes(damaged))
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "one.npy", IMAGES)
    for name in ("half", "damaged", "text", "empty", "missing"):
        with pytest.raises(ValueError, match=f"{name}.npz"):
            load(f"npz:{tmp_path / name}.npz")
    with pytest.raises(ValueError, match="a single array"):
        load(f"npz:{tmp_path / 'one.npy'}")


def test_camvid():
    data = load(f"npz:{real('camvid_180x240.npz')}")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 367,
        "validation": 101,
        "test": 233,
    }
    assert data.void == 11 and len(data.class_names) == 11
    assert data.splits["train"].image_shape == (180, 240, 3)


def test_tiny_imagenet():
    """It is small enough to be decoded at once."""
    data = load(f"npz:{real('tinyimagenet20_jpeg_packed.npz')}")
    assert len(data.class_names) == 20
    assert data.splits["train"].images.shape == (10000, 64, 64, 3)
    assert len(data.splits["validation"]) == 1000
