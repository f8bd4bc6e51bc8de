"""What a network gets right: of images, of classes, of pixels."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_en.arguments import check
from keras_en.training.material import Material

Predict = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Of a network on images, each counted once.

    Attributes:
        matrix: `(classes, classes)`, int64: of how many images, or pixels, of the class
            of a row the network says the class of a column.
        images: Their number.
        top5: How many images have their class among the first five; `None` of pixels,
            and where there are no more classes than that.
    """

    matrix: np.ndarray
    images: int
    top5: int | None
    task: str

    @property
    def per_class(self) -> np.ndarray:
        """`(classes,)`: of images the share of each class that is right; of pixels the
        intersection over union. NaN of a class that is not there."""
        right = np.diag(self.matrix).astype("float64")
        whole = self.matrix.sum(1)
        if self.task == "segmentation":
            whole = whole + self.matrix.sum(0) - np.diag(self.matrix)
        with np.errstate(invalid="ignore"):
            return right / whole

    @property
    def metrics(self) -> dict[str, float]:
        """By name, in [0, 1]: "top1" and "top5"; or "miou", the mean of the classes
        that are there, and "pixels", the share of them that is right."""
        right = float(np.trace(self.matrix) / max(1, self.matrix.sum()))
        if self.task == "segmentation":
            return {"miou": float(np.nanmean(self.per_class)), "pixels": right}
        top5 = {} if self.top5 is None else {"top5": self.top5 / max(1, self.images)}
        return {"top1": right, **top5}


def evaluate(
    model: keras.Model,
    material: Material,
    split: str | None = None,
    scales: Sequence[int] = (),
) -> Scores:
    """Compares what a network says of images with their labels.

    Args:
        model: `keras.Model` with one output of probabilities or scores, along the last
            axis; of a dictionary of outputs "main" is meant.
        material: See `keras_en.training.material`.
        split: Name; `None`: "test", or "validation" where there is none.
        scales: Short sides that all images are brought to, in turn; the probabilities
            of all, in the size of the labels, are averaged. Of segmentation only.

    Raises:
        ValueError: Network and data do not fit.
    """
    facts, split = material.facts, material.split(split)
    segments = facts.task == "segmentation"
    check(segments or not scales, "scales", "() but for segmentation", tuple(scales))
    classes = _classes(model)
    if classes != facts.classes:
        raise ValueError(
            "The network and the data must have as many classes. Received: a network "
            f"of {classes}, data of {facts.classes}"
        )
    sides = [material.evaluate(split, side) for side in scales]
    outputs = _averaged(model, material.evaluate(split), sides)
    return count(outputs, facts.classes, facts.task, facts.void)


def count(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: int,
    task: str = "classification",
    void: int | None = None,
) -> Scores:
    """The scores of batches of probabilities and labels.

    Args:
        pairs: Of `(N, ..., classes)` and `(N, ...)`.
        classes, task: As in `build.Facts`.
        void: The label that counts nowhere.

    >>> scores = count([(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))], 2)
    >>> scores.matrix.tolist(), scores.metrics
    ([[1, 0], [1, 0]], {'top1': 0.5})
    """
    matrix = np.zeros((classes, classes), "int64")
    images = among = 0
    counts_five = task == "classification" and classes > 5
    for outputs, labels in pairs:
        images += len(labels)
        says, truth = outputs.argmax(-1).ravel(), np.asarray(labels).ravel()
        counted = slice(None) if void is None else truth != void
        pair = truth[counted].astype("int64") * classes + says[counted]
        matrix += np.bincount(pair, minlength=classes**2).reshape(matrix.shape)
        if counts_five:
            five = np.argpartition(-outputs, 5, -1)[:, :5]
            among += int((five == truth[:, None]).any(1).sum())
    return Scores(matrix, images, among if counts_five else None, task)


def main_output(model: keras.Model) -> Predict:
    """A function of images to the first output of `model`, NumPy's."""

    def predict(images):
        outputs = model.predict_on_batch(images)
        outputs = outputs["main"] if isinstance(outputs, dict) else outputs
        return np.asarray(keras.ops.convert_to_numpy(outputs), "float32")

    return predict


def _classes(model):
    outputs = model.output
    return (outputs["main"] if isinstance(outputs, dict) else outputs).shape[-1]


def _averaged(model, batches, sides) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and labels, batch by batch; with `sides`, batches of the same
    images in other sizes, their means."""
    predict = main_output(model)
    for (images, labels), *others in zip(batches, *sides, strict=True):
        labels = np.asarray(labels)
        if not others:
            yield predict(images), labels
            continue
        shape = labels.shape[1:]
        every = [_resized(predict(images), shape) for images, _ in others]
        yield np.mean(every, axis=0), labels


def _resized(maps, shape):
    if maps.shape[1:3] == shape:
        return maps
    resized = keras.ops.image.resize(maps, shape, data_format="channels_last")
    return keras.ops.convert_to_numpy(resized)
