"""The path of tensorflow-datasets, on small data sets that are built here."""

import errno

import numpy as np
import pytest

from keras_en import files
from keras_en.training.data import ArraySplit, Transform, catalogue, load
from keras_en.training.data.catalogue import StreamSplit
from tests.training.data.pictures import together

tfds = pytest.importorskip("tensorflow_datasets", reason="it is not installed")
pytest.importorskip("importlib_resources", reason="tensorflow-datasets imports it")
pytestmark = [
    pytest.mark.tensorflow,
    # Its own code, in Python's newer versions.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

COUNTS = {"train": 12, "test": 6}


def example(number, shape):
    """The image, grey, and the label of an example."""
    return np.full(shape, 20 * number, "uint8"), number % 3


class TinySquares(tfds.core.GeneratorBasedBuilder):
    """Small images of one size, with identifiers."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (8, 8, 3)
    FORMAT = "png"

    def _info(self):
        shape = self.SHAPE
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=shape, encoding_format=self.FORMAT),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(n) for split, n in COUNTS.items()}

    def _generate_examples(self, count):
        for i in range(count):
            # Sides that differ from image to image.
            shape = [side or 10 + i for side in self.SHAPE]
            image, label = example(i, shape)
            yield i, {"id": f"train_{i:05d}", "image": image, "label": label}


class TinyPhotos(TinySquares):
    """Images of many sizes, JPEG; the labels of the test are secret."""

    SHAPE = (None, None, 3)
    FORMAT = "jpeg"

    def _generate_examples(self, count):
        for i, values in super()._generate_examples(count):
            secret = count == COUNTS["test"]
            yield i, {**values, "label": -1 if secret else values["label"]}


class FullDisk(TinySquares):
    """One that has no room."""

    def _generate_examples(self, count):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield


class NoImages(TinySquares):
    """Numbers only."""

    def _info(self):
        features = {"x": tfds.features.Tensor(shape=(), dtype=np.int64)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"x": i}


class Cityscapes(tfds.core.GeneratorBasedBuilder):
    """The features of the real one, of other sizes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(shape=(6, 9, 3), encoding_format="png")
        mask = tfds.features.Image(shape=(6, 9, 1), encoding_format="png")
        features = {"image_left": image, "segmentation_label": mask}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        names = ("train", "validation", "test")
        return {name: self._generate_examples() for name in names}

    def _generate_examples(self):
        for i in range(3):
            mask = np.zeros((6, 9, 1), "uint8")
            mask[0, :4, 0] = [7, 8, 33, 12]
            image = np.repeat(mask, 3, 2)
            yield i, {"image_left": image, "segmentation_label": mask}


@pytest.fixture
def data_dir(tmp_path):
    """Where the sets are written; `tfds.builder` reads them from there."""
    return str(tmp_path / "tfds")


def prepared(kind, data_dir):
    kind(data_dir=data_dir).download_and_prepare()


def test_small_images_are_arrays_in_the_order_of_their_identifiers(data_dir):
    prepared(TinySquares, data_dir)
    data = load("tfds:tiny_squares", data_dir=data_dir)
    assert data.class_names == ("a", "b", "c") and data.task == "classification"
    assert {name: len(split) for name, split in data.splits.items()} == COUNTS
    for name, split in data.splits.items():
        assert isinstance(split, ArraySplit) and split.image_shape == (8, 8, 3)
        expected = [example(i, (8, 8, 3)) for i in range(COUNTS[name])]
        np.testing.assert_array_equal(split.images, [image for image, _ in expected])
        np.testing.assert_array_equal(split.labels, [label for _, label in expected])


def test_labels_of_a_file_in_that_order(data_dir, tmp_path):
    prepared(TinySquares, data_dir)
    noisy = (np.arange(12) % 3 + (np.arange(12) == 5)) % 3
    np.savez(tmp_path / "noise.npz", noisy=noisy)
    labels = f"npz:{tmp_path / 'noise.npz'}:noisy"
    data = load("tfds:tiny_squares", data_dir=data_dir, labels=labels)
    np.testing.assert_array_equal(data.splits["train"].labels, noisy)
    np.testing.assert_array_equal(data.splits["test"].labels, np.arange(6) % 3)


@pytest.fixture
def photos(data_dir):
    prepared(TinyPhotos, data_dir)
    return load("tfds:tiny_photos", data_dir=data_dir, image_size=8)


def greys(images):
    return np.rint(images[:, 4, 4, 0] * 255 / 20).astype(int)


def test_a_split_of_secret_labels_is_left_out(photos):
    assert set(photos.splits) == {"train"}


def test_streams_by_seed_and_epoch(data_dir, photos):
    train = photos.splits["train"]
    assert isinstance(train, StreamSplit) and len(train) == 12
    assert train.image_shape == (8, 8, 3)
    images, labels = together(train.batches(5))
    assert sorted(greys(images)) == list(range(12))
    np.testing.assert_array_equal(labels, greys(images) % 3)
    np.testing.assert_array_equal(train.labels, labels)
    transform = Transform.of(["random_resized_crop", "flip"])
    runs = [
        together(train.batches(5, transform, seed=seed, epoch=epoch))
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    for images, labels in runs:
        assert sorted(greys(images)) == list(range(12))
        np.testing.assert_array_equal(labels, greys(images) % 3)
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert not np.array_equal(runs[0][1], runs[2][1])
    assert not np.array_equal(runs[0][1], runs[3][1])
    limited = train.batches(5, transform, seed=0, limit=7)
    assert len(limited) == 2 and len(together(limited)[1]) == 7


def test_cityscapes_has_the_classes_of_its_benchmark(data_dir):
    prepared(Cityscapes, data_dir)
    data = load("tfds:cityscapes", data_dir=data_dir)
    assert data.task == "segmentation" and data.void == 255
    assert len(data.class_names) == 19 and data.class_names[0] == "road"
    assert set(data.splits) == {"train", "validation"}
    train = data.splits["train"]
    assert train.labels is None and train.image_shape == (6, 9, 3)
    images, labels = together(train.batches(2))
    assert images.shape == (3, 6, 9, 3)
    np.testing.assert_array_equal(labels[0, 0, :5], [0, 1, 18, 3, 255])
    transform = Transform.of([{"pad_crop": 1}, "flip"], void=255)
    assert together(train.batches(2, transform, seed=0))[1].shape == (3, 6, 9)


def test_what_is_wrong(data_dir):
    with pytest.raises(ValueError, match="the nearest are .*cifar10"):
        load("tfds:cifar11", data_dir=data_dir)
    prepared(NoImages, data_dir)
    with pytest.raises(ValueError, match="an Image, uint8, and a ClassLabel"):
        load("tfds:no_images", data_dir=data_dir)


def test_a_full_disk_leaves_nothing(data_dir, monkeypatch, tmp_path):
    monkeypatch.setattr(
        tfds, "builder", lambda name, data_dir: FullDisk(data_dir=data_dir)
    )
    with pytest.raises(files.CannotWrite, match="No space left"):
        load("tfds:full_disk", data_dir=data_dir)
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_masks_of_scene_parsing():
    """The class is the first channel, 0 is none."""
    masks = catalogue.MASKS["scene_parse150"]
    assert masks.values[0] == 1 and len(masks.names) == 100
