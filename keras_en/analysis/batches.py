"""Samples to look at, and their classes, a batch at a time, from any source."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.arguments import are_arrays, check, is_array, refused

_DATA = "arrays with a sample, a tf.data.Dataset, a PyDataset or an iterable of batches"


class Source(NamedTuple):
    """Where samples come from.

    - `batches`: iterable of `(x, labels)`; labels are `(n,)`, int64, or `None`.
    - `steps`: their number, or `None` where only the iterable tells.
    """

    batches: Iterable
    steps: int | None


def source(data: Any, labels: Any, batch_size: int) -> Source:
    """Batches of arrays, of one input or of several, or of whatever yields batches.

    Args:
        data: An array, a structure of arrays, or an iterable of
            batches `x`, `(x, y)` or `(x, y, sample_weight)`, whose `y` are the labels
            where they are classes.
        labels: `(N,)` integers or `(N, classes)` one-hot; `None`: those of the batches.
        batch_size: Samples a batch of arrays.

    Raises:
        ValueError: There is no sample, or not a label of each.
        TypeError: `data` is nothing of these.
    """
    if labels is not None:
        labels = _checked(labels)
    if is_array(data) or are_arrays(data):
        return _from_arrays(data, labels, batch_size)
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        check(count is not None, "data", "a PyDataset that ends", data)
        return Source(_labelled((data[i] for i in range(count)), labels), count)
    if not hasattr(data, "__iter__") or isinstance(data, str | bytes):
        raise refused("data", _DATA, f"data={data!r}", TypeError)
    return Source(_labelled(data, labels), _steps(data))


def classes_of(targets: Any) -> np.ndarray | None:
    """Labels `(n,)`, int64, of integers or one-hot rows; `None` of anything else."""
    if isinstance(targets, dict) or targets is None:
        return None
    values = keras.ops.convert_to_numpy(targets)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "biuf":
        one_hot = (values.max(1) == 1) & (np.abs(values).sum(1) == 1)
        return values.argmax(1) if one_hot.all() else None
    whole = values.dtype.kind in "biu"
    if values.dtype.kind == "f":
        whole = bool((values == np.floor(values)).all())
    return values.astype("int64") if values.ndim == 1 and whole else None


def _checked(labels):
    values = classes_of(np.asarray(labels))
    if values is None:
        shape = f"labels.shape={np.shape(labels)}"
        raise refused("labels", "integers (N,), or one-hot (N, classes)", shape)
    return values


def _from_arrays(data, labels, batch_size):
    sizes = {len(leaf) for leaf in keras.tree.flatten(data)}
    if len(sizes) != 1 or 0 in sizes:
        raise refused("data", _DATA, f"arrays of {sorted(sizes)} samples")
    (count,) = sizes
    if labels is not None:
        check(len(labels) == count, "labels", f"of {count} samples", len(labels))

    def batches():
        for start in range(0, count, batch_size):
            chosen = slice(start, start + batch_size)
            x = keras.tree.map_structure(lambda leaf, c=chosen: leaf[c], data)
            yield x, None if labels is None else labels[chosen]

    return Source(batches(), -(-count // batch_size))


def _steps(data):
    """-1 of an endless dataset, -2 of one that does not know."""
    if hasattr(data, "cardinality"):
        steps = int(data.cardinality())
        check(steps != -1, "data", "a dataset that ends", data)
        return steps if steps >= 0 else None
    return len(data) if hasattr(data, "__len__") else None


def _labelled(data, labels) -> Iterator:
    """Batches as `(x, labels)`, the labels from `labels` where there are any."""
    start = 0
    for batch in data:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        count = int(keras.tree.flatten(x)[0].shape[0])
        if labels is not None:
            y = labels[start : start + count]
            check(len(y) == count, "labels", "of every sample", len(labels), "length")
        start += count
        yield x, classes_of(y)
    if labels is not None:
        check(start == len(labels), "labels", f"of {start} samples", len(labels))
