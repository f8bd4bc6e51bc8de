"""Optimizers whose weight decay is that of the paper's sources, and who know which
weights learn the ratios."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_en.arguments import check, number
from keras_en.training import keras_private

# The last two are of Switchable Normalization: `keras_en.layers` names them so.
RATIOS = (
    *("ratio_conv", "ratio_hidden_kernel", "ratio_hidden_bias"),
    *("ratio_output_kernel", "ratio_output_bias", "mean_logits", "variance_logits"),
)
NORMS = ("gamma", "beta")
KINDS = ("norms", "biases", "vectors")


def is_ratio(variable: Any) -> bool:
    """Whether it learns the ratios of a layer."""
    return variable.name in RATIOS


def _is_of(variable: Any, kinds: Sequence[str]) -> bool:
    """Whether a variable is of one of the `KINDS`."""
    name, rank = variable.name, len(variable.shape)
    return (
        ("norms" in kinds and name in NORMS)
        or ("biases" in kinds and name == "bias")
        or ("vectors" in kinds and (rank < 2 or name in NORMS))
    )


class Coupled(keras.optimizers.Optimizer):
    """What adds an L2 penalty to the gradients of a Keras optimizer.

    `g_v <- g_v + l2_v * v`, and the learning rate of ratios is
    `ratio_lr_multiplier * rate`. Behind momentum or Adam this is not what Keras's own
    `weight_decay` does, which takes `rate * weight_decay * v` off the weight
    (Loshchilov & Hutter 2019): PyTorch's SGD and Caffe's, with which the paper's
    sources train, add.

    Args:
        l2: Of all variables but those below; 0: none.
        exclude: Kinds of variables without: "norms" (`gamma`, `beta`), "biases"
            (`bias`), "vectors" (rank 0 and 1, and `gamma` and `beta` of a pool).
        ratio_l2: Of the variables that learn ratios, whatever `exclude` says. `None`:
            they are as all others.
        ratio_lr_multiplier: Of the learning rate of those variables.
        ratio_clipnorm: Largest norm of their gradients, all of them together. `None`:
            any.
        **kwargs: Of the optimizer.
    """

    def __init__(
        self,
        *args: Any,
        l2: float = 0.0,
        exclude: Sequence[str] = (),
        ratio_l2: float | None = None,
        ratio_lr_multiplier: float = 1.0,
        ratio_clipnorm: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = _positive("l2", l2)
        unknown = [kind for kind in exclude if kind not in KINDS]
        check(not unknown, "exclude", f"kinds out of {KINDS}", list(exclude))
        self.exclude = tuple(exclude)  # TensorFlow would track a list.
        self.ratio_l2 = None if ratio_l2 is None else _positive("ratio_l2", ratio_l2)
        self.ratio_lr_multiplier = _positive("ratio_lr_multiplier", ratio_lr_multiplier)
        self.ratio_clipnorm = ratio_clipnorm
        if ratio_clipnorm is not None:
            self.ratio_clipnorm = _positive("ratio_clipnorm", ratio_clipnorm)

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self._ratios = tuple(is_ratio(variable) for variable in variables)
        self._l2_of = tuple(self._l2(variable) for variable in variables)

    def _l2(self, variable):
        if is_ratio(variable) and self.ratio_l2 is not None:
            return self.ratio_l2
        return 0.0 if _is_of(variable, self.exclude) else self.l2

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        if self.ratio_clipnorm is not None:
            if trainable_variables is None:
                chosen = self._ratios
            else:
                trainable_variables = list(trainable_variables)
                chosen = tuple(map(is_ratio, trainable_variables))
            grads = self._clipped(list(grads), chosen)
        super().apply(grads, trainable_variables)

    def _clipped(self, gradients, chosen):
        places = [
            i
            for i, gradient in enumerate(gradients)
            if chosen[i] and gradient is not None
        ]
        if not places:
            return gradients
        squares = [ops.sum(ops.square(gradients[i])) for i in places]
        norm = ops.sqrt(sum(squares[1:], squares[0]))
        scale = self.ratio_clipnorm / ops.maximum(norm, self.ratio_clipnorm)
        for i in places:
            gradients[i] = gradients[i] * ops.cast(scale, gradients[i].dtype)
        return gradients

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = keras_private.index(self, variable)
        if self._l2_of[index]:
            gradient = ops.cast(gradient, variable.dtype)
            gradient = gradient + self._l2_of[index] * variable
        if self._ratios[index]:
            learning_rate = learning_rate * self.ratio_lr_multiplier
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        names = ("l2", "ratio_l2", "ratio_lr_multiplier", "ratio_clipnorm")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "exclude": list(self.exclude)}


@keras.saving.register_keras_serializable(package="keras_en")
class SGD(Coupled, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with the arguments of `Coupled`.

    `m <- momentum * m - rate * (g + l2 * v)`, `v <- v + m`

    The rate is inside the momentum, as in Keras and in Caffe; PyTorch has it outside,
    so that after a fall of the rate steps differ for some `1 / (1 - momentum)` of them.

    >>> import keras
    >>> import numpy as np
    >>> weight = keras.Variable([1.0], name="kernel")
    >>> optimizer = SGD(0.5, l2=0.1)
    >>> optimizer.apply([keras.ops.ones(1)], [weight])
    >>> float(weight[0]) - (1 - 0.5 * (1 + 0.1 * 1)) < 1e-6
    True
    """


@keras.saving.register_keras_serializable(package="keras_en")
class Adam(Coupled, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with the arguments of `Coupled`."""


def _positive(name, value):
    value = number(name, value, "of at least 0")
    check(value >= 0, name, "of at least 0", value)
    return value
