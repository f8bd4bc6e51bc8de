"""Whether the moving statistics of a network fit it."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.layers import BatchKalmanNormalization
from keras_en.layers.recording import replaced_calls
from keras_en.training.confusion import Confusion, confusion
from keras_en.training.recalibration import layers_with_statistics

# Points of accuracy or IoU by which the two may part.
POINTS = 5.0


class Gap(NamedTuple):
    """What a network scores with two kinds of statistics.

    >>> print(Gap("accuracy", 0.108, 0.915).warning)
    On the same images the accuracy is 10.8 % with moving statistics and 91.5 % with ...

    - `metric`: "accuracy" or "mean IoU".
    - `moving`: With moving statistics, as in evaluation.
    - `batch`: With those of each batch, as in training.
    """

    metric: str
    moving: float
    batch: float

    @property
    def warning(self) -> str | None:
        """A text, where the two part by more than five points."""
        points = 100 * (self.batch - self.moving)
        # Numbers of binary fractions: five points are not more than five.
        if not abs(points) > POINTS + 1e-9:
            return None
        moving, batch = (f"{100 * v:.1f} %" for v in (self.moving, self.batch))
        scores = (
            f"On the same images the {self.metric} is {moving} with moving statistics "
            f"and {batch} with those of their batches. "
        )
        if points > 0:
            return (
                f"{scores}The moving statistics do not fit the weights, and the first "
                "number says little about the network. Train for more steps, lower the "
                "momentum (statistics.momentum), or compute them anew "
                "(statistics.recalibrate, keras_en.recalibrate)"
            )
        return (
            f"{scores}Those of batches are worse: the batches of evaluation are small, "
            "or their images are alike, and so may be those of training; larger or "
            "better mixed batches bring the two together"
        )


def statistics_gap(
    model: keras.Model,
    batches: Iterable[tuple[Any, Any]],
    classes: int,
    void: int | None = None,
    segmentation: bool = False,
    moving: Confusion | None = None,
) -> Gap | None:
    """Evaluates a network with its moving statistics and with those of batches.

    In the second case every trainable layer of `keras.layers.BatchNormalization` and of
    this library normalizes as in training, while everything else behaves as in
    evaluation, without dropout. Nothing of the model changes.

    Args:
        model: Built `keras.Model` with one output.
        batches: As in `keras_en.training.confusion.confusion`; can be iterated over
            twice. Use batches as large as those of training, well mixed.
        classes, void: See there.
        segmentation: Whether the metric is the mean IoU; otherwise the accuracy.
        moving: What `confusion` has counted over these batches, if that is there.

    Returns:
        `Gap`; `None` of a network without moving statistics, and of one with
        `BatchKalmanNormalization`, which predicts statistics in training.

    Raises:
        ValueError: See `keras_en.training.confusion.confusion`.

    Example: a network that was not trained yet.

    >>> norm = keras.layers.BatchNormalization()
    >>> model = keras.Sequential([keras.Input((2,)), norm, keras.layers.Softmax()])
    >>> images = np.array([[5.0, 0.5], [5.0, -0.5]])
    >>> statistics_gap(model, [(images, np.array([1, 0]))], 2)
    Gap(metric='accuracy', moving=0.5, batch=1.0)
    """
    layers = layers_with_statistics(model)
    kalman = any(isinstance(layer, BatchKalmanNormalization) for layer in layers)
    if not layers or kalman:
        return None
    if moving is None:
        moving = confusion(model, batches, classes, void)
    with batch_statistics(model):
        batch = confusion(model, batches, classes, void)
    if segmentation:
        return Gap("mean IoU", moving.mean_iou, batch.mean_iou)
    return Gap("accuracy", moving.accuracy, batch.accuracy)


@contextlib.contextmanager
def batch_statistics(model: keras.Model) -> Iterator[None]:
    """Inside, the layers of `model` that keep moving statistics normalize with those of
    the batch when it predicts; behind it, all their variables are as before."""
    layers = layers_with_statistics(model)
    variables = [v for layer in layers for v in layer.non_trainable_variables]
    before = [keras.ops.convert_to_numpy(v) for v in variables]
    try:
        with replaced_calls((layer, _learning(layer.call)) for layer in layers):
            model.make_predict_function(force=True)
            yield
    finally:
        # What was traced inside must not stay.
        model.make_predict_function(force=True)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(np.array(value))


def _learning(original):
    def call(inputs, training=None, **kwargs):
        return original(inputs, training=True, **kwargs)

    return call
