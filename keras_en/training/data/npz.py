"""Arrays in one file: images, packed JPEG, masks, labels."""

import zipfile
from pathlib import Path

import numpy as np

from keras_en.training.data.parts import Contents, Part, path_of

# The splits, and how files call them.
_SPLITS = {
    "train": ("train",),
    "validation": ("val", "validation", "valid"),
    "test": ("test",),
}


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
        if "train" not in parts:
            raise ValueError(
                f"{where} must hold x_train and y_train, train_images and train_labels "
                "or train_masks, or train_jpeg, train_offsets and train_labels. "
                f"Received: {', '.join(file)}"
            )
        names, void = None, None
        if "class_names" in file:
            names = tuple(map(str, array(where, file, "class_names").ravel()))
        if "void_label" in file:
            void = int(array(where, file, "void_label"))
    return Contents(where, parts, names, void)


def opened(path: Path) -> np.lib.npyio.NpzFile:
    """The file, opened. Raises `ValueError` if it is none, or broken."""
    try:
        file = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{path} must be an npz file. Received: {reason}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} must be an npz file. Received: one that is broken, or no npz"
        ) from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} must be an npz file. Received: a single array")
    return file


def array(where: str, file: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    """One of its arrays. Raises `ValueError` if it is not there, or broken."""
    if key not in file:
        raise ValueError(f"{where} must hold {key}. Received: {', '.join(file)}")
    try:
        return file[key]
    except Exception as error:  # of zlib, zipfile and NumPy
        raise ValueError(
            f"{where} must hold arrays of numbers or texts that can be read. "
            f"Received: {key}, {error}"
        ) from error


def labels_of(where: str, values: np.ndarray, key: str) -> np.ndarray:
    """Labels as `(N,)`, int64. Raises `ValueError` if they are none."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(
            f"{where} must hold labels of shape (N,), integers, as {key}. "
            f"Received: {values.dtype}, {values.shape}"
        )
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
    if not fits:
        raise ValueError(
            f"{where} must hold images of shape (N, H, W, C) or (N, H, W), uint8, as "
            f"{key}. Received: {images.dtype}, {images.shape}"
        )
    names = [f"{where}, {key}[{i}]" for i in range(len(images))]
    masks_key = f"{alias}_masks"
    if masks_key not in file:
        values = labels_of(where, array(where, file, pairs[key]), pairs[key])
        return Part(images, values, None, names)
    masks = array(where, file, masks_key)
    fits = masks.shape == images.shape[:3] and masks.dtype.kind in "iu"
    if not fits or masks.min(initial=0) < 0 or masks.max(initial=0) > 255:
        raise ValueError(
            f"{where} must hold masks of shape {images.shape[:3]}, integers from 0 to "
            f"255, as {masks_key}. Received: {masks.dtype}, {masks.shape}"
        )
    return Part(images, None, masks.astype("uint8"), names)


def _packed(where, file, alias):
    keys = [f"{alias}_{name}" for name in ("jpeg", "offsets", "labels")]
    data, offsets, labels = (array(where, file, key) for key in keys)
    flat = data.ndim == 1 and data.dtype == np.uint8
    fits = flat and offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets)
    if not fits or offsets[0] < 0 or offsets[-1] > len(data) or _falls(offsets):
        received = f"{data.dtype}, {data.shape}; {offsets.dtype}, {offsets.shape}"
        raise ValueError(
            f"{where} must hold {keys[0]}, all bytes in one uint8 array, and "
            f"{keys[1]}, where each image begins and the last one ends. "
            f"Received: {received}"
        )
    ends = offsets.tolist()
    images = [data[a:b].tobytes() for a, b in zip(ends[:-1], ends[1:], strict=True)]
    names = [f"{where}, {keys[0]}[{i}]" for i in range(len(images))]
    return Part(images, labels_of(where, labels, keys[2]), None, names)


def _falls(offsets):
    return bool((offsets[1:] < offsets[:-1]).any())
