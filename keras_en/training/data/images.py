"""Image files: what is wrong with one, and its pixels."""

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_en.arguments import check_installed

# The formats that are read, by the names that their files may have.
SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
# Images, too, but in a folder of images they would be left out without a word.
UNREADABLE = (".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2")
# What the last bytes of a whole file are. Behind them some programs write more: then,
# and in the other formats, all pixels are read.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


class Broken(ValueError):
    """What is wrong with an image, without its name."""


def in_threads(function: Callable, items: Iterable) -> list[Any]:
    """`function` of each item, in order; Pillow works without Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def fault_or(function: Callable) -> Callable:
    """`function`, that returns a `Broken` instead of raising it."""

    def call(item):
        try:
            return function(item)
        except Broken as error:
            return error

    return call


def pictures(subject: str = "This data set") -> Any:
    """`PIL.Image`. Raises `RuntimeError`, about `subject`, where it is missing."""
    check_installed(subject, ["PIL"], "train")
    from PIL import Image

    return Image


def size_of(source: Path | bytes) -> tuple[int, int]:
    """Height and width of an image that can be trained on.

    The start and the end of a file are read; all of it where they do not tell.

    Raises:
        Broken: It is no such image.
    """
    if isinstance(source, bytes):
        return _size(io.BytesIO(source), None)
    try:
        with source.open("rb") as file:
            return _size(file, SUFFIXES.get(source.suffix.lower()))
    except OSError as error:
        raise Broken(error.strerror or str(error)) from error


def _size(file: BinaryIO, named: str | None) -> tuple[int, int]:
    if not file.seek(0, os.SEEK_END):
        raise Broken("empty")
    image = _opened(file)
    if named not in (None, image.format):
        raise Broken(f"{_a(image.format)} by its content, {_a(named)} by its name")
    _check_mode(image, file)
    end = _ENDS.get(image.format)
    if end is not None:
        file.seek(-len(end), os.SEEK_END)
    if end is None or file.read() != end:
        file.seek(0)
        _loaded(_opened(file))
    return image.height, image.width


def _a(format):
    return f"a {format}" if format in ("BMP", "JPEG", "PNG", "WEBP") else format


def _opened(file):
    file.seek(0)
    module = pictures()
    try:
        image = module.open(file)
    except Exception as error:  # Pillow's plugins raise many kinds
        raise Broken("not an image that can be read") from error
    if image.format not in SUFFIXES.values():
        allowed = ", ".join(sorted(set(SUFFIXES.values())))
        raise Broken(f"{image.format}, not one of {allowed}")
    return image


def _loaded(image):
    try:
        image.load()
    except Exception as error:
        raise Broken(f"truncated or damaged ({error})") from error
    return image


def _check_mode(image, file):
    # Pillow shows 16-bit colours as 8-bit ones; the depth stands in the header.
    file.seek(24)
    deep = image.format == "PNG" and file.read(1) == b"\x10"
    if deep or image.mode[0] in "IF":
        raise Broken("16-bit; 8 bits a channel are read")
    if image.mode == "CMYK":
        raise Broken("CMYK; grey and RGB are read")


def _checked(data):
    """An encoded image of a format and a mode that are read, not decoded yet."""
    if not data:
        raise Broken("empty")
    image = _opened(io.BytesIO(data))
    _check_mode(image, io.BytesIO(data))
    return image


def decoded(data: bytes) -> np.ndarray:
    """The pixels of an encoded image, `(H, W, 3)`, uint8.

    Raises:
        Broken: See `size_of`.
    """
    image = _loaded(_checked(data))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def decoded_mask(data: bytes) -> np.ndarray:
    """The labels of an encoded mask, `(H, W)`, uint8; of one with a palette the
    numbers of its colours.

    Raises:
        Broken: It is no such mask.
    """
    image = _checked(data)
    if image.format == "JPEG":
        raise Broken("a JPEG, which does not keep the labels of a mask")
    if image.mode not in ("L", "P", "1"):
        raise Broken(f"{image.mode}; a mask has one channel, whose values are labels")
    return np.asarray(_loaded(image)).astype("uint8")


def mask_of(source: Path | bytes) -> np.ndarray:
    """`decoded_mask` of a file."""
    if isinstance(source, bytes):
        return decoded_mask(source)
    try:
        return decoded_mask(source.read_bytes())
    except OSError as error:
        raise Broken(error.strerror or str(error)) from error
