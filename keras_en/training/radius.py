"""The schedule that makes sparse switches choose."""

from typing import Any

import keras

from keras_en.arguments import check, integer, number
from keras_en.keras_private import layers_of
from keras_en.layers import SparseSwitchableNormalization
from keras_en.training import keras_private


class RadiusSchedule(keras.callbacks.Callback):
    """Raises the radius of every `SparseSwitchableNormalization`, step by step.

    `r = sqrt((K - 1) / K) * min(1, i / (end * (steps - 1)))` in the training step after
    `i` others    (Shao et al. 2019, Sec. 3.3: from 0 to the radius at which one
    normalizer is left)

    `i` is the optimizer's count of steps, so that a training that goes on, from a
    checkpoint or in another `fit`, goes on with its radius. Frozen layers keep theirs.

    Args:
        steps: Number of training steps; the last has the largest radius. The paper
            takes all of the training.
        end: Share of the steps, above 0 and at most 1, behind which the radius is the
            largest. The authors' code has the progress itself, `i / steps`, for a
            radius, so that three normalizers are down to one, for which it has to be
            `sqrt(2 / 3)`, at 82 % of the training: `end=(2 / 3) ** 0.5`.

    Raises:
        ValueError, TypeError: `steps` is no integer of at least 2, `end` is not in
            (0, 1]; when training begins, the network holds no layer of the kind.

    Example: two steps, so that the second has the largest radius, `sqrt(2 / 3)`.

    >>> import keras
    >>> import numpy as np
    >>> import keras_en
    >>> switch = keras_en.SparseSwitchableNormalization()
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), switch])
    >>> model.compile("sgd", "mse")
    >>> x = np.zeros((2, 2, 2, 1))
    >>> schedule = keras_en.training.RadiusSchedule(steps=2)
    >>> _ = model.fit(x, x, batch_size=1, callbacks=[schedule], verbose=0)
    >>> round(float(keras.ops.convert_to_numpy(switch.radius)), 4)
    0.8165
    """

    def __init__(self, steps: int, end: float = 1.0) -> None:
        super().__init__()
        self.steps = integer("steps", steps, minimum=2)
        self.end = number("end", end, "in (0, 1]")
        check(0 < self.end <= 1, "end", "in (0, 1]", end)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        allowed = "a network with SparseSwitchableNormalization, for RadiusSchedule"
        check(self._switches(), "model", allowed, self.model.name, "name")

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # On JAX asking for the model is what makes its variables current.
        step = keras_private.steps_done(self.model.optimizer)
        for layer in self._switches():
            if layer.trainable:
                layer.set_radius(min(1.0, step / (self.end * (self.steps - 1))))

    def _switches(self):
        return [
            layer
            for layer in layers_of(self.model)
            if isinstance(layer, SparseSwitchableNormalization)
        ]
