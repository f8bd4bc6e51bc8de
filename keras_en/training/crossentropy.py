"""The loss of recipes: cross-entropy of integer labels, with what they need beside."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_en.arguments import check, number


@keras.saving.register_keras_serializable(package="keras_en")
class Crossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy of integer labels, smoothed and weighted by class.

    `loss = w[y] * -sum_k q_k log p_k`, `q_k = (1 - s) [k = y] + s / K`
    (Szegedy et al. 2016, Sec. 7)

    With an `ignore_class` the losses of a sample's labels are 0 for those of that
    class, and for the rest divided by the share of these: their mean is that over what
    counts, 0 where nothing does. Each image counts as much, however much of it is void,
    and however a batch is split over replicas.

    Args:
        label_smoothing: `s`, in [0, 1).
        class_weights: `w`, a number for each of the `K` classes; `None`: 1. With those
            of `balanced_weights` the mean over samples is, in expectation, that of
            batches with as many samples of each class.
        **kwargs: Of `keras.losses.SparseCategoricalCrossentropy`; no `ignore_class`
            beside the other two.

    Raises:
        ValueError, TypeError: An argument is not among those listed.

    Example: of four classes 0.4 is shared out.

    >>> import keras
    >>> loss = Crossentropy(label_smoothing=0.4)
    >>> outputs = keras.ops.array([[0.7, 0.1, 0.1, 0.1]])
    >>> expected = -0.7 * keras.ops.log(0.7) - 3 * 0.1 * keras.ops.log(0.1)
    >>> abs(float(loss([0], outputs)) - float(expected)) < 1e-6
    True
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        name: str = "crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        smoothing = number("label_smoothing", label_smoothing, "in [0, 1)")
        check(0 <= smoothing < 1, "label_smoothing", "in [0, 1)", label_smoothing)
        self.label_smoothing = smoothing
        self.class_weights = None if class_weights is None else tuple(class_weights)
        valid = self.ignore_class is None or not (smoothing or self.class_weights)
        allowed = "None with label_smoothing or class_weights"
        check(valid, "ignore_class", allowed, self.ignore_class)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if self.ignore_class is not None:
            return self._of_what_counts(y_true, y_pred)
        if not (self.label_smoothing or self.class_weights):
            return super().call(y_true, y_pred)
        y_true = ops.cast(y_true, "int32")
        # Labels may have a last axis of 1, and in a graph no known rank.
        y_true = ops.reshape(y_true, ops.shape(y_pred)[:-1])
        if self.label_smoothing:
            losses = keras.losses.categorical_crossentropy(
                ops.one_hot(y_true, y_pred.shape[-1], dtype=y_pred.dtype),
                y_pred,
                from_logits=self.from_logits,
                label_smoothing=self.label_smoothing,
            )
        else:
            losses = super().call(y_true, y_pred)
        if self.class_weights is None:
            return losses
        weights = ops.convert_to_tensor(self.class_weights, losses.dtype)
        return losses * ops.take(weights, y_true)

    def _of_what_counts(self, y_true, y_pred):
        counts = ops.not_equal(ops.cast(y_true, "int32"), self.ignore_class)
        labels = ops.where(counts, ops.cast(y_true, "int32"), 0)
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, y_pred, from_logits=self.from_logits
        )
        if len(losses.shape) < len(counts.shape):
            counts = ops.squeeze(counts, -1)
        axes = tuple(range(1, len(losses.shape)))
        # Of float16 a count of pixels would leave the range.
        share = ops.mean(ops.cast(counts, "float32"), axes, keepdims=True)
        wide = ops.cast(ops.where(counts, losses, 0), "float32")
        result = ops.where(share > 0, wide / ops.maximum(share, 1e-30), 0)
        return ops.cast(result, losses.dtype)

    def get_config(self) -> dict[str, Any]:
        own = {"label_smoothing": self.label_smoothing}
        own["class_weights"] = self.class_weights and list(self.class_weights)
        return {**super().get_config(), **own}


def balanced_weights(labels: Any, classes: int) -> list[float]:
    """`N / (K n_k)` of each class `k` with `n_k` of the `N` labels; 0 without any.

    >>> balanced_weights([0, 0, 0, 1], 2)
    [0.6666666666666666, 2.0]
    """
    counts = np.bincount(np.asarray(labels), minlength=classes)
    shares = len(labels) / (classes * np.maximum(counts, 1))
    return np.where(counts > 0, shares, 0.0).tolist()
