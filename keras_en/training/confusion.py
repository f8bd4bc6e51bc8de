"""Which class is taken for which, and what follows of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_en.arguments import check, integer

# A wrong class may be among so many.
_TOP = 5


@dataclass(frozen=True)
class Confusion:
    """Counts over images, or over the pixels of images.

    >>> result = Confusion(np.array([[3, 1], [0, 4]]))
    >>> result.accuracy, result.per_class.tolist(), result.iou.tolist()
    (0.875, [0.75, 1.0], [0.75, 0.8])

    Attributes:
        matrix: `(C, C)`, int64: rows are the true classes, columns the predicted ones.
        top5: Images whose true class is among the five most probable; `None` for
            pixels, and with five classes or fewer.
    """

    matrix: np.ndarray
    top5: int | None = None

    @property
    def samples(self) -> int:
        """All images, or pixels, that count."""
        return int(self.matrix.sum())

    @property
    def top1(self) -> int:
        """Those that are predicted rightly."""
        return int(np.trace(self.matrix))

    @property
    def accuracy(self) -> float:
        """`top1 / samples`."""
        return self.top1 / self.samples if self.samples else float("nan")

    @property
    def top5_accuracy(self) -> float | None:
        """`top5 / samples`."""
        if self.top5 is None:
            return None
        return self.top5 / self.samples if self.samples else float("nan")

    @property
    def per_class(self) -> np.ndarray:
        """`(C,)`: the share of each class that is predicted rightly, or NaN."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(axis=1))

    @property
    def iou(self) -> np.ndarray:
        """`(C,)`: intersection over union; NaN of a class that is neither there nor
        predicted."""
        rows, columns = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        hits = np.diag(self.matrix)
        return _ratio(hits, rows + columns - hits)

    @property
    def mean_iou(self) -> float:
        """The mean of those that are numbers, as `keras.metrics.MeanIoU` has it."""
        valid = self.iou[~np.isnan(self.iou)]
        return float(valid.mean()) if len(valid) else float("nan")

    def worst(self, count: int) -> list[tuple[int, int, int]]:
        """`(true, predicted, images)` of the most frequent confusions, in order."""
        wrong = self.matrix - np.diag(np.diag(self.matrix))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = (np.unravel_index(i, wrong.shape) for i in order)
        return [(int(t), int(p), int(wrong[t, p])) for t, p in pairs if wrong[t, p]]


def confusion(
    model: keras.Model,
    batches: Iterable[tuple[Any, Any]],
    classes: int,
    void: int | None = None,
) -> Confusion:
    """Predicts batches and counts, every sample once.

    Args:
        model: `keras.Model` with one output, `(N, C)` or `(N, H, W, C)`.
        batches: Iterable of `(images, labels)`, the labels `(N,)` or `(N, H, W)`, also
            with a last axis of one.
        classes: `C`.
        void: The label that counts nowhere, or `None`.

    Returns:
        `Confusion`.

    Raises:
        ValueError: A label is neither a class nor `void`; outputs have another shape.
    """
    return counted(model.predict_on_batch, batches, classes, void)


def counted(
    predict: Callable[[Any], Any],
    batches: Iterable[tuple[Any, Any]],
    classes: int,
    void: int | None = None,
) -> Confusion:
    """As `confusion`, with a function from images to outputs."""
    integer("classes", classes, minimum=1)
    allowed = f"labels from 0 to {classes - 1}, or void"
    matrix = np.zeros((classes, classes), "int64")
    top5: int | None = 0 if classes > _TOP else None
    for batch in batches:
        images, labels = batch[:2]
        labels = np.asarray(keras.ops.convert_to_numpy(labels)).astype("int64")
        if labels.ndim in (2, 4) and labels.shape[-1] == 1:
            labels = labels[..., 0]
        # Under a strategy Keras computes a batch once a replica, the first one first.
        outputs = np.asarray(keras.ops.convert_to_numpy(predict(images)))[: len(labels)]
        expected = (*labels.shape, classes)
        check(outputs.shape == expected, "batches", f"for {expected}", outputs.shape)
        valid = slice(None) if void is None else labels != void
        truths, scores = labels[valid].ravel(), outputs[valid].reshape(-1, classes)
        wrong = truths[(truths < 0) | (truths >= classes)]
        check(not len(wrong), "batches", allowed, wrong[:1].tolist())
        pairs = truths * classes + scores.argmax(axis=-1)
        matrix += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        top5 = None if labels.ndim > 1 else top5
        if top5 is not None:
            own = np.take_along_axis(scores, truths[:, None], axis=-1)
            # As `argmax`: of equal ones the first. What is NaN is before all others.
            first = np.arange(classes) < truths[:, None]
            before = ~(scores <= own) | (first & (scores == own))
            top5 += int((before.sum(axis=-1) < _TOP).sum())
    return Confusion(matrix, top5)


def _ratio(part, whole):
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
