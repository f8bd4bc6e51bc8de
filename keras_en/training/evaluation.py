"""What a network gets right: of images, of classes, of pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_en.arguments import check, require
from keras_en.keras_private import output_structure
from keras_en.training.confusion import Confusion, counted
from keras_en.training.honest import statistics_gap
from keras_en.training.material import Material
from keras_en.training.pictures import Samples

# So many show five points.
GAP_IMAGES = 2048


@dataclass(frozen=True)
class Scores:
    """Of a network on images, each counted once.

    Attributes:
        confusion: Counts over images, or over pixels.
        images: Their number.
        task: As in `build.Facts`.
    """

    confusion: Confusion
    images: int
    task: str

    @property
    def per_class(self) -> np.ndarray:
        """`(classes,)`: of images the share of each class that is right; of pixels the
        intersection over union. NaN of a class that is not there."""
        segments = self.task == "segmentation"
        return self.confusion.iou if segments else self.confusion.per_class

    @property
    def metrics(self) -> dict[str, float]:
        """By name, in [0, 1]: "top1" and "top5"; or "miou" and "pixels", the share of
        them that is right."""
        right, five = self.confusion.accuracy, self.confusion.top5_accuracy
        if self.task == "segmentation":
            return {"miou": self.confusion.mean_iou, "pixels": right}
        return {"top1": right} if five is None else {"top1": right, "top5": five}


def check_network(
    model: keras.Model,
    subject: str = "Argument `model`",
    name: Any = None,
    ranks: Sequence[int] = (2, 4),
) -> None:
    """Raises `ValueError` unless a network tells classes of images: of one tensor each.

    Args:
        model: `keras.Model`, of any kind.
        subject: What an error calls it.
        name: What it is in words; `None`: its name.
        ranks: Of its output.
    """
    inputs, outputs = (
        [tuple(tensor.shape) for tensor in getattr(model, side, None) or ()]
        for side in ("inputs", "outputs")
    )
    images = len(inputs) == 1 and len(inputs[0]) == 4
    classes = len(outputs) == 1 and len(outputs[0]) in ranks
    # A dictionary or a list of one tensor is none.
    plain = isinstance(output_structure(model), keras.KerasTensor | None)
    forms = {2: "(N, classes)", 4: "(N, H, W, classes)"}
    what = "be a functional or Sequential network, built, of one input, (N, H, W, C), "
    what += f"to one output, {' or '.join(forms[rank] for rank in ranks)}"
    received = f"{name or model.name}, of inputs {inputs} to outputs {outputs}"
    if not plain:
        received += ", by name or in a list"
    if not inputs:
        received = f"{name or model.name}, whose inputs are not known"
        what += "; of another, make one: x = keras.Input(...); keras.Model(x, model(x))"
    require(images and classes and plain, subject, what, received)


def evaluate(
    model: keras.Model,
    material: Material,
    split: str | None = None,
    scales: Sequence[int] = (),
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Compares what a network says of images with their labels.

    Args:
        model: Functional or Sequential `keras.Model` with one output of probabilities
            or scores, along the last axis.
        material: See `keras_en.training.material`.
        split: Name; `None`: "test", or "validation" where there is none.
        scales: Short sides that all images are brought to, in turn; the probabilities
            of all are averaged. Of segmentation only, whose outputs are brought to the
            size of the masks, and counted there.
        progress: Function that is called with the number of images so far.

    Raises:
        ValueError: Network and data do not fit.
    """
    facts, split = material.facts, material.split(split)
    segments = facts.task == "segmentation"
    check(segments or not scales, "scales", "() but for segmentation", tuple(scales))
    check_network(model, ranks=(4,) if segments else (2,))
    classes, what = model.output_shape[-1], "have as many classes"
    received = f"a network of {classes}, data of {facts.classes}"
    require(classes == facts.classes, "The network and the data", what, received)
    sides = [material.evaluate(split, side) for side in scales]
    if segments and material.resizes and not sides:
        sides = [material.evaluate(split)]
    images = 0

    def batches():
        nonlocal images
        own = segments and (material.resizes or scales)
        batches = material.truths(split) if own else material.evaluate(split)
        for (plain, labels), *others in zip(batches, *sides, strict=True):
            images += len(labels)
            if progress is not None:
                progress(images)
            every = [batch for batch, _ in others] or [plain]
            yield (every, tuple(np.shape(labels))[1:]), labels

    def predict(inputs):
        every, shape = inputs
        return np.mean([_resized(_main(model, x), shape) for x in every], axis=0)

    confusion = counted(predict, batches(), facts.classes, facts.void)
    return Scores(confusion, images, facts.task)


def samples(model: keras.Model, material: Material, split: str, count: int) -> Samples:
    """The first images of a segmentation, with truths and predictions."""
    chosen: tuple[list, list, list] = ([], [], [])
    for images, labels in material.evaluate(split):
        predictions = _main(model, images).argmax(-1)
        for values, more in zip(chosen, (images, labels, predictions), strict=True):
            values.extend(np.asarray(more))
        if len(chosen[0]) >= count:
            break
    return Samples(*(values[:count] for values in chosen))


def gap_warning(model: keras.Model, material: Material, split: str) -> str | None:
    """What `honest.statistics_gap` warns of, on some images of a split, well mixed;
    `None` where images differ in size, so that none can share a batch."""
    batches = material.mixed(split, GAP_IMAGES)
    if batches is None:
        return None
    facts = material.facts
    segments = facts.task == "segmentation"
    gap = statistics_gap(model, batches, facts.classes, facts.void, segments)
    return None if gap is None else gap.warning


def _main(model, images):
    """Its output, NumPy's."""
    outputs = keras.ops.convert_to_numpy(model.predict_on_batch(images))
    # Under a strategy Keras computes a batch once a replica.
    return np.asarray(outputs, "float32")[: len(images)]


def _resized(maps, shape):
    if not shape or maps.shape[1:3] == shape:
        return maps
    resized = keras.ops.image.resize(maps, shape, data_format="channels_last")
    return keras.ops.convert_to_numpy(resized)
