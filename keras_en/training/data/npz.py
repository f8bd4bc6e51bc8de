"""Arrays in one file: images, packed JPEG, masks, labels."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_en.arguments import fault, require
from keras_en.training.data.parts import Contents, Part, path_of

# The splits, and how files call them.
_SPLITS = {
    "train": ("train",),
    "validation": ("val", "validation", "valid"),
    "test": ("test",),
}
_FILE = "be an npz file"


def contents(text: str) -> Contents:
    """The contents of a file: arrays `x_train` and `y_train`, or `train_images` with
    `train_labels` or `train_masks`, or `train_jpeg` (the bytes of all files, end to
    end), `train_offsets` and `train_labels`; the same for `val` and `test`;
    `class_names` and `void_label`."""
    path = path_of(text)
    where = f"The file {path}"
    with opened(path) as file:
        parts = {}
        for split, aliases in _SPLITS.items():
            for alias in aliases:
                part = _part(where, file, alias)
                if part is not None:
                    parts[split] = part
        what = "hold x_train and y_train, train_images and train_labels or train_masks,"
        what += " or train_jpeg, train_offsets and train_labels"
        require("train" in parts, where, what, ", ".join(file))
        names, void = None, None
        if "class_names" in file:
            names = tuple(map(str, array(where, file, "class_names").ravel()))
        if "void_label" in file:
            void = int(array(where, file, "void_label"))
    return Contents(where, parts, names, void)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The file, open inside. Raises `ValueError` if it is none, or broken."""
    with contextlib.ExitStack() as stack:
        try:
            # NumPy leaves a file open that it cannot read.
            file = stack.enter_context(path.open("rb"))
            arrays = np.load(file, allow_pickle=False)
        except OSError as error:
            raise fault(path, _FILE, error.strerror or error) from error
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise fault(path, _FILE, "one that is broken, or no npz") from error
        several = isinstance(arrays, np.lib.npyio.NpzFile)
        require(several, path, _FILE, "a single array")
        yield stack.enter_context(arrays)


def array(where: str, file: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    """One of its arrays. Raises `ValueError` if it is not there, or broken."""
    require(key in file, where, f"hold {key}", ", ".join(file))
    try:
        return file[key]
    except Exception as error:  # of zlib, zipfile and NumPy
        what = "hold arrays of numbers or texts that can be read"
        raise fault(where, what, f"{key}, {error}") from error


def labels_of(where: str, values: np.ndarray, key: str) -> np.ndarray:
    """Labels as `(N,)`, int64. Raises `ValueError` if they are none."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    fits = values.ndim == 1 and values.dtype.kind in "iu"
    what = f"hold labels of shape (N,), integers, as {key}"
    require(fits, where, what, _shown(values))
    return values.astype("int64")


def _part(where, file, alias):
    """The split of this name, or `None`."""
    if f"{alias}_jpeg" in file:
        return _packed(where, file, alias)
    pairs = {f"x_{alias}": f"y_{alias}", f"{alias}_images": f"{alias}_labels"}
    key = next((key for key in pairs if key in file), None)
    if key is None:
        return None
    images = array(where, file, key)
    if images.ndim == 3:
        images = images[..., None]
    fits = images.ndim == 4 and images.dtype == np.uint8
    what = f"hold images of shape (N, H, W, C) or (N, H, W), uint8, as {key}"
    require(fits, where, what, _shown(images))
    names = [f"{where}, {key}[{i}]" for i in range(len(images))]
    masks_key = f"{alias}_masks"
    if masks_key not in file:
        values = labels_of(where, array(where, file, pairs[key]), pairs[key])
        return Part(images, values, None, names)
    masks = array(where, file, masks_key)
    fits = masks.shape == images.shape[:3] and masks.dtype.kind in "iu"
    fits = fits and masks.min(initial=0) >= 0 and masks.max(initial=0) <= 255
    what = f"hold masks of shape {images.shape[:3]}, integers from 0 to 255, as "
    require(fits, where, what + masks_key, _shown(masks))
    return Part(images, None, masks.astype("uint8"), names)


def _packed(where, file, alias):
    keys = [f"{alias}_{name}" for name in ("jpeg", "offsets", "labels")]
    data, offsets, labels = (array(where, file, key) for key in keys)
    flat = data.ndim == 1 and data.dtype == np.uint8
    fits = flat and offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets)
    fits = fits and offsets[0] >= 0 and offsets[-1] <= len(data)
    fits = fits and not (offsets[1:] < offsets[:-1]).any()
    what = f"hold {keys[0]}, all bytes in one uint8 array, and {keys[1]}, where each "
    what += "image begins and the last one ends"
    require(fits, where, what, f"{_shown(data)}; {_shown(offsets)}")
    ends = offsets.tolist()
    images = [data[a:b].tobytes() for a, b in zip(ends[:-1], ends[1:], strict=True)]
    names = [f"{where}, {keys[0]}[{i}]" for i in range(len(images))]
    return Part(images, labels_of(where, labels, keys[2]), None, names)


def _shown(array):
    return f"{array.dtype}, {array.shape}"
