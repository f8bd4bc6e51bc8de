"""What is wrong with image files."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_en.training.data import images
from tests.training.data.pictures import encoded, picture


@pytest.fixture
def image(rng):
    return picture(rng)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_can_be_read(tmp_path, image, suffix, mode):
    path = tmp_path / f"x{suffix}"
    format = images.SUFFIXES[suffix.lower()]
    data = encoded(Image.fromarray(image).convert(mode), format)
    path.write_bytes(data)
    assert images.size_of(path) == images.size_of(data) == (12, 16)
    pixels = images.decoded(data)
    assert pixels.shape == (12, 16, 3) and pixels.dtype == "uint8"
    if format in ("PNG", "BMP"):
        expected = np.asarray(Image.fromarray(image).convert(mode).convert("RGB"))
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1"])
def test_palettes_and_transparency(image, mode):
    data = encoded(Image.fromarray(image).convert(mode), "PNG")
    assert images.decoded(data).shape == (12, 16, 3)


def colours_of_16_bits():
    """A PNG of one pixel, which Pillow shows in 8 bits."""

    def chunk(name, data):
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + bytes(6))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def broken(image):
    """Name, bytes and the word that says what is wrong."""
    whole = encoded(image)
    png = encoded(image, "PNG")
    deep = Image.fromarray(image[..., 0].astype("uint16") * 256)
    cmyk = Image.fromarray(image).convert("CMYK")
    return {
        "truncated.jpg": (whole[:-20], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "cmyk.jpg": (encoded(cmyk), "CMYK"),
        "grey16.png": (encoded(deep, "PNG"), "16-bit"),
        "colours16.png": (colours_of_16_bits(), "16-bit"),
        "header.jpg": (whole[:100], "not an image"),
        "empty.jpg": (b"", "empty"),
        "extension.jpg": (png, "a PNG by its content, a JPEG by its name"),
        "text.png": (b"this is no image", "not an image"),
        "scan.tif": (encoded(image, "TIFF"), "TIFF, not one of"),
        "moving.gif": (encoded(image, "GIF"), "GIF, not one of"),
    }


@pytest.mark.parametrize("name", sorted(broken(np.zeros((12, 16, 3), "uint8"))))
def test_what_is_wrong(tmp_path, image, name):
    data, word = broken(image)[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(images.Broken, match=word):
        images.size_of(tmp_path / name)


def test_bytes_behind_the_end_are_allowed(tmp_path, image):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(image) + b"from a camera")
    assert images.size_of(path) == (12, 16)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(images.Broken, match="No such file"):
        images.size_of(tmp_path / "x.jpg")


def test_masks(rng, image):
    mask = rng.integers(0, 5, (12, 16), dtype="uint8")
    np.testing.assert_array_equal(images.decoded_mask(encoded(mask, "PNG")), mask)
    # Numbers of colours, not the colours.
    palette = Image.fromarray(mask)
    palette.putpalette(rng.integers(0, 256, 768).tolist())
    assert palette.mode == "P"
    np.testing.assert_array_equal(images.decoded_mask(encoded(palette, "PNG")), mask)
    for data, word in (
        (encoded(image, "PNG"), "one channel"),
        (encoded(mask), "JPEG, which does not keep"),
        (encoded(mask.astype("uint16"), "PNG"), "16-bit"),
        (b"", "empty"),
    ):
        with pytest.raises(images.Broken, match=word):
            images.decoded_mask(data)
