"""Data sets."""

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.arguments import check_installed


class Split(NamedTuple):
    """Images `(N, H, W, C)` in [0, 1], float32, and their labels `(N,)`."""

    images: np.ndarray
    labels: np.ndarray


def digits(seed: int = 0) -> dict[str, Split]:
    """Scikit-learn's handwritten digits: 1,797 real 8x8 images of ten classes.

    The data set is part of scikit-learn; nothing is downloaded. The split into
    training (1,257), validation (180) and test (360) images is stratified.

    Args:
        seed: Integer, the seed of the split.

    Returns:
        `{"train": Split, "validation": Split, "test": Split}`.

    Example:

    >>> from keras_en import training
    >>> data = training.digits(seed=0)
    >>> {name: split.images.shape[0] for name, split in data.items()}
    {'train': 1257, 'validation': 180, 'test': 360}
    >>> data["test"].images.shape[1:], data["test"].labels.dtype
    ((8, 8, 1), dtype('int32'))
    """
    check_installed("training.digits", ["sklearn"], "train")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.images[..., None] / 16).astype("float32")
    labels = data.target.astype("int32")

    def split(images, labels, size):
        large, small, large_labels, small_labels = train_test_split(
            images, labels, test_size=size, random_state=seed, stratify=labels
        )
        return Split(large, large_labels), Split(small, small_labels)

    rest, test = split(images, labels, 360)
    train, validation = split(rest.images, rest.labels, 180)
    return {"train": train, "validation": validation, "test": test}


def batches(split: Split, batch_size: int, seed: int = 0, shift: int = 0) -> Any:
    """Shuffled training batches, an epoch of them.

    Args:
        split: `Split`.
        batch_size: Images a batch; the last one may be smaller.
        seed: Integer, the seed of order and shifts.
        shift: Largest random translation, in pixels, each way and axis; what is left
            empty is 0.

    Returns:
        `tf.data.Dataset` of `(images, labels)`, in another order every epoch.

    Example:

    >>> from keras_en import training
    >>> split = training.digits(seed=0)["validation"]
    >>> [labels.shape[0] for _, labels in training.batches(split, 64, shift=1)]
    [64, 64, 52]
    """
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(tuple(split))
    data = data.shuffle(len(split.labels), seed=seed).batch(batch_size)
    if shift:
        height, width = split.images.shape[1:3]
        translate = keras.layers.RandomTranslation(
            shift / height,
            shift / width,
            fill_mode="constant",
            interpolation="nearest",
            seed=seed,
        )
        data = data.map(
            lambda images, labels: (translate(images, training=True), labels)
        )
    return data.prefetch(1)
