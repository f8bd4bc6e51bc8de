"""Small images and files for the tests of data."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(rng, height=12, width=16):
    """A smooth image: JPEG keeps it nearly as it is."""
    coarse = rng.integers(0, 256, (3, 4, 3), dtype="uint8")
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def encoded(image, format="JPEG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, format, **options)
    return file.getvalue()


def class_folder(root, rng, count=5, classes=("cat", "dog"), size=(12, 16)):
    """A folder a class, with JPEGs; returns their paths in order."""
    paths = []
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            paths.append(root / name / f"{i}.jpg")
            paths[-1].write_bytes(encoded(picture(rng, *size)))
    return paths


def mask_folder(root, rng, count=4, size=(12, 16), classes=3):
    """`images` and `masks`, PNGs, every mask with every class; returns the masks."""
    masks = []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        mask = rng.integers(0, classes, size, dtype="uint8")
        mask[0, :classes] = range(classes)
        masks.append(mask)
        (root / "images" / f"{i}.png").write_bytes(encoded(picture(rng, *size), "PNG"))
        (root / "masks" / f"{i}.png").write_bytes(encoded(mask, "PNG"))
    return masks


def packed(images):
    """The bytes of encoded images end to end, and where each begins."""
    offsets = np.cumsum([0, *map(len, images)])
    return np.frombuffer(b"".join(images), "uint8"), offsets


def real(name):
    """The path of real data, or the test is skipped."""
    folder = os.environ.get("KERAS_EN_DATA")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"KERAS_EN_DATA is not a folder with {name}")
    return Path(folder) / name


def together(batches):
    """Images and labels of an iteration, as arrays."""
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in batches]
    return tuple(np.concatenate(values) for values in zip(*pairs, strict=True))
