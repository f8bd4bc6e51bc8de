"""Sources by their text."""

import os
import subprocess
import sys

import numpy as np
import pytest

from keras_en.training import digits
from keras_en.training.data import Transform, load
from keras_en.training.recipes import recipe
from tests.sources import ROOT
from tests.training.data.pictures import real, together


def test_digits_are_those_of_the_quickstart():
    data = load("digits", seed=3)
    for name, split in digits(3).items():
        images, labels = together(data.splits[name].batches(100))
        np.testing.assert_array_equal(images, split.images)
        np.testing.assert_array_equal(labels, split.labels)


@pytest.mark.parametrize(
    "source", ["", "digit", "folder", "folder:", "tfds:", "http://x", "npz", None]
)
def test_what_is_no_source(source):
    with pytest.raises(ValueError, match="`source` must be digits, tfds:NAME"):
        load(source)


@pytest.fixture
def arrays(tmp_path):
    labels = np.arange(40) % 4
    images = np.zeros((40, 2, 2, 3), "uint8")
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels)
    return tmp_path


def test_labels_of_a_file(arrays):
    noisy = (np.arange(40) + (np.arange(40) < 8)) % 4
    np.savez(arrays / "noise.npz", noisy=noisy)
    data = load(f"npz:{arrays / 'a.npz'}", labels=f"npz:{arrays / 'noise.npz'}:noisy")
    everything = np.concatenate([split.labels for split in data.splits.values()])
    np.testing.assert_array_equal(np.bincount(everything), np.bincount(noisy))


@pytest.mark.parametrize(
    "labels, words",
    [
        ("noise", "`labels` must be npz:PATH:key"),
        ("npz:noise.npz", "`labels` must be npz:PATH:key"),
        ("npz:{}/none.npz:y", "none.npz must be an npz file. .*No such file"),
        ("npz:{}/noise.npz:z", "noise.npz must hold z. Received: short, high, floats"),
        ("npz:{}/noise.npz:short", "each of 40 training images. Received: 3"),
        ("npz:{}/noise.npz:high", "from 0 to 3.* Received: 0 to 9"),
        ("npz:{}/noise.npz:floats", "integers, as floats. Received: float64"),
    ],
)
def test_wrong_labels(arrays, labels, words):
    values = dict(short=np.arange(3), high=np.arange(40) % 10, floats=np.ones(40))
    np.savez(arrays / "noise.npz", **values)
    with pytest.raises(ValueError, match=words):
        load(f"npz:{arrays / 'a.npz'}", labels=labels.format(arrays))


def test_labels_in_another_order_are_doubted(arrays):
    np.savez(arrays / "noise.npz", noisy=(np.arange(40) + 1) % 4)
    with pytest.warns(UserWarning, match="0.0% of the images: are they in another"):
        load(f"npz:{arrays / 'a.npz'}", labels=f"npz:{arrays / 'noise.npz'}:noisy")


def test_wrong_arguments():
    with pytest.raises(ValueError, match="image_size"):
        load("digits", image_size=0)
    with pytest.raises(ValueError, match="labels"):
        load("digits", labels="npz:a:b")


WITHOUT_TENSORFLOW = """
import sys

sys.modules["tensorflow"] = None  # an import of it fails
from keras_en.training.data import Transform, load

transform = Transform.of([{"shift": 1}, "flip", {"random_resized_crop": None}])
for source in ("digits", "npz:" + sys.argv[1]):
    train = load(source, seed=0).splits["train"]
    batches = train.batches(16, transform, seed=0)
    print(sum(len(labels) for _, labels in batches), len(train))
"""


@pytest.mark.slow
def test_without_tensorflow(arrays):
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(arrays / "a.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.split() == ["1257", "1257", "32", "32"]


@pytest.fixture(scope="module")
def cifar10n():
    noise = real("cifar10n_labels.npz")
    return load(
        f"npz:{real('cifar10_jpeg_packed.npz')}", labels=f"npz:{noise}:worse_label"
    )


def test_cifar10_with_noisy_labels(cifar10n):
    train = cifar10n.splits["train"]
    clean = np.load(real("cifar10n_labels.npz"))["clean_label"]
    assert abs((train.labels != clean).mean() - 0.4) < 0.005
    transform = Transform.of([{"pad_crop": 4}, "flip"])
    images, labels = train.batches(128, transform, seed=0)[0]
    assert images.shape == (128, 32, 32, 3) and cifar10n.class_names[6] == "frog"


def test_images_of_cifar10_are_those_that_its_recipe_normalizes(cifar10n):
    """Means to 2e-4; what is compressed anew deviates a little less."""
    images = cifar10n.splits["train"].images
    normalize = recipe.load("cifar10_resnet20").data.train[-1]["normalize"]
    counts = np.stack([np.bincount(images[..., i].ravel()) for i in range(3)])
    values = np.arange(256) / 255
    means = counts @ values / counts.sum(1)
    squares = counts @ values**2 / counts.sum(1)
    np.testing.assert_allclose(means, normalize["mean"], atol=2e-4)
    np.testing.assert_allclose(np.sqrt(squares - means**2), normalize["std"], atol=2e-3)
