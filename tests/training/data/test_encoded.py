"""Files by tf.data: the same images as in memory, in the order that a seed says."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_en import training
from keras_en.training.data import Transform, encoded, load, sampling
from keras_en.training.data.transformations import RandomResizedCrop
from tests.training.data.pictures import class_folder, mask_folder, picture, together
from tests.training.data.pictures import encoded as file_of

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def folder(tmp_path, rng):
    class_folder(tmp_path / "train", rng)
    class_folder(tmp_path / "val", rng)
    return tmp_path


def pixels(folder, split="train"):
    paths = sorted((folder / split).rglob("*.jpg"))
    return np.stack([np.asarray(Image.open(path)) for path in paths])


@pytest.mark.parametrize("cached", [True, False])
def test_evaluation_sees_every_image_once(folder, monkeypatch, cached):
    if not cached:
        monkeypatch.setattr(encoded, "CACHED", 0)
    batches = load(f"folder:{folder}").splits["validation"].batches(4)
    assert len(batches) == 3 == int(batches.dataset.cardinality())
    images, labels = together(batches)
    assert images.dtype == "float32" and labels.dtype == "int32"
    np.testing.assert_array_equal(labels, [0] * 5 + [1] * 5)
    np.testing.assert_allclose(images * 255, pixels(folder, "val"), atol=1e-4)
    np.testing.assert_array_equal(together(batches)[0], images)


@pytest.mark.parametrize(
    "steps",
    [
        [{"pad_crop": 2}, "flip"],
        ["random_resized_crop", "flip", {"color_jitter": 0.4}, {"lighting": 0.1}],
        [{"resize": 14}, {"pad_crop": 1}],
    ],
)
def test_seed_and_epoch_decide(folder, steps):
    train = load(f"folder:{folder}").splits["train"]
    transform = Transform.of(steps, image_size=10)
    runs = [
        together(train.batches(4, transform, seed=seed, epoch=epoch))
        for seed, epoch in ((5, 2), (5, 2), (5, 3), (6, 2))
    ]
    for images, labels in runs:
        np.testing.assert_array_equal(np.bincount(labels), [5, 5])
        assert images.shape[1:] == transform.output_shape((12, 16, 3))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert not np.array_equal(runs[0][0], runs[2][0])
    assert not np.array_equal(runs[0][0], runs[3][0])


def test_all_batches_differ_in_augmentation(folder):
    """No two of the same image, in whichever batch."""
    train = load(f"folder:{folder}").splits["train"]
    transform = Transform.of(["random_resized_crop"], image_size=8)
    images = [together(train.batches(3, transform, 0, e))[0] for e in range(4)]
    flat = np.concatenate(images).reshape(40, -1)
    assert len(np.unique(flat, axis=0)) == 40


@pytest.mark.parametrize("first", ["random_resized_crop", {"pad_crop": 1}])
def test_no_two_draws_have_the_same_numbers(folder, monkeypatch, first):
    """Those of a sample by itself, and the flips of each of four batches."""
    draws, uniform = set(), sampling.uniform

    def recorded(*arguments):
        numbers = uniform(*arguments)
        draws.update(numbers.ravel()[:1].tolist())
        return numbers

    monkeypatch.setattr(sampling, "uniform", recorded)
    transform = Transform.of([first, {"resize": [8, 8]}, "flip"], image_size=8)
    train = load(f"folder:{folder}").splits["train"]
    assert len(together(train.batches(3, transform, seed=0))[1]) == 10
    assert len(draws) == 1 + 4


def test_only_the_part_of_a_jpeg_is_decoded_and_it_is_the_part(folder):
    """Against the whole image, cut and resized by Pillow."""
    for path in (folder / "train").rglob("*.jpg"):
        # At the border of a part, the colours of smaller ones are those of the part.
        path.write_bytes(file_of(np.asarray(Image.open(path)), subsampling=0))
    train = load(f"folder:{folder}").splits["train"]
    transform = Transform.of(["random_resized_crop"], image_size=6)
    images, labels = together(train.batches(4, transform, seed=3, epoch=1))
    (step,) = transform.steps
    assert isinstance(step, RandomResizedCrop)
    order = np.random.default_rng([3, 1]).permutation(10)
    uniform = np.random.default_rng([3, 1, 1]).random((10, 22))
    boxes = step.boxes(np.tile([12, 16], (10, 1)), uniform).tolist()
    for image, index, (y, x, h, w) in zip(images, order, boxes, strict=True):
        part = Image.fromarray(pixels(folder)[index][y : y + h, x : x + w])
        expected = np.asarray(part.resize((6, 6), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(image * 255, expected, atol=1.01)
    np.testing.assert_array_equal(labels, order >= 5)


@pytest.mark.parametrize("size", [24, 7])
def test_an_image_size_is_pillows_resize(folder, size):
    """Larger by TensorFlow, smaller by Pillow: to one step of 255 the same."""
    split = load(f"folder:{folder}", image_size=size).splits["validation"]
    images, _ = together(split.batches(10))
    for image, original in zip(images, pixels(folder, "val"), strict=True):
        expected = Image.fromarray(original).resize((size, size), Image.BILINEAR)
        np.testing.assert_allclose(image * 255, np.asarray(expected), atol=1.01)


def test_other_formats_beside_jpeg(folder, rng):
    image = picture(rng)
    (folder / "val" / "cat" / "0.jpg").unlink()
    (folder / "val" / "cat" / "0.png").write_bytes(file_of(image, "PNG"))
    grey = Image.fromarray(image).convert("L")
    (folder / "val" / "cat" / "1.jpg").write_bytes(file_of(grey))
    split = load(f"folder:{folder}").splits["validation"]
    images, _ = together(split.batches(3))
    np.testing.assert_allclose(images[0] * 255, image, atol=1e-4)
    assert (images[1][..., :1] == images[1]).all()
    transform = Transform.of(["random_resized_crop"], image_size=8)
    assert together(split.batches(3, transform, seed=0))[0].shape == (10, 8, 8, 3)


def test_images_of_different_sizes(folder, rng):
    (folder / "val" / "cat" / "0.jpg").write_bytes(file_of(picture(rng, 30, 20)))
    split = load(f"folder:{folder}").splits["validation"]
    assert split.image_shape == (None, None, 3)
    with pytest.raises(ValueError, match="`batch_size` must be 1 .* differ in size"):
        split.batches(2, Transform.of([{"resize": 8}]))
    shapes = [images.shape[1:3] for images, _ in split.batches(1)]
    assert shapes[0] == (30, 20) and shapes[1] == (12, 16)
    transform = Transform.of([{"resize": 12}, {"center_crop": 8}])
    assert together(split.batches(4, transform))[0].shape == (10, 8, 8, 3)


@pytest.mark.parametrize(
    "step", [{"center_crop": 32}, {"random_scale_crop": {"short": [10], "crop": 32}}]
)
def test_what_pads_is_not_resized(folder, step):
    """One step alone, larger than the images: as in memory."""
    split = load(f"folder:{folder}").splits["validation"]
    seed = None if "center_crop" in step else 0
    images, _ = together(split.batches(10, Transform.of([step], void=255), seed))
    originals = pixels(folder, "val")
    assert images.shape == (10, 32, 32, 3)
    if "center_crop" in step:
        expected, _ = Transform.of([step])(originals)
        np.testing.assert_allclose(images, expected, atol=1e-6)
    assert (images == 0).all(-1).mean() > 0.5, "black outside"


def test_masks_go_along(tmp_path, rng):
    mask_folder(tmp_path / "train", rng, 6)
    mask_folder(tmp_path / "val", rng, 3)
    for path in (tmp_path / "train" / "images").iterdir():
        mask = np.asarray(Image.open(tmp_path / "train" / "masks" / path.name))
        path.write_bytes(file_of(mask[..., None].repeat(3, 2) * 100, "PNG"))
    data = load(f"folder:{tmp_path}")
    transform = Transform.of([{"pad_crop": 3}, "flip"], void=data.void)
    images, labels = together(data.splits["train"].batches(4, transform, seed=0))
    assert labels.shape == (6, 12, 16) and labels.dtype == "int32"
    inside = labels != 255
    assert inside.any() and not inside.all()
    np.testing.assert_array_equal(
        np.rint(images[..., 0] * 255)[inside], labels[inside] * 100
    )
    steps = [{"random_scale_crop": {"short": [8, 12, 20], "crop": 14}}, "flip"]
    transform = Transform.of(steps, void=data.void)
    images, labels = together(data.splits["train"].batches(4, transform, seed=0))
    assert images.shape == (6, 14, 14, 3) and labels.shape == (6, 14, 14)
    assert set(np.unique(labels)) <= {0, 1, 2, 255}


def test_a_file_that_breaks_during_training_is_named(folder, monkeypatch):
    monkeypatch.setattr(encoded, "CACHED", 0)
    split = load(f"folder:{folder}").splits["validation"]
    path = folder / "val" / "dog" / "3.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cannot be read: .*val/dog/3.jpg: truncated"):
        list(split.batches(2))
    path.unlink()
    with pytest.raises(ValueError, match="val/dog/3.jpg: .*No such file"):
        list(split.batches(2))


def test_training_and_evaluation(folder):
    """`training.fit` and `evaluate` take batches of files as those of memory."""
    data = load(f"folder:{folder}")
    transform = Transform.of([{"pad_crop": 1}, "flip"])
    layers = [keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((12, 16, 3)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    history = training.fit(
        model,
        lambda epoch: data.splits["train"].batches(4, transform, 0, epoch),
        epochs=2,
        validation_data=data.splits["validation"].batches(4),
        verbose=0,
    ).history
    assert len(history["val_loss"]) == 2
    results = training.evaluate(model, data.splits["validation"].batches(3), verbose=0)
    assert abs(results["loss"] - history["val_loss"][-1]) < 1e-5


def test_a_limit_is_the_same_in_every_epoch(folder):
    train = load(f"folder:{folder}").splits["train"]
    batches = [train.batches(3, seed=0, epoch=e, limit=4) for e in range(2)]
    assert [len(b) for b in batches] == [2, 2]
    images = [np.sort(together(b)[0].reshape(4, -1), axis=0) for b in batches]
    np.testing.assert_array_equal(*images)
