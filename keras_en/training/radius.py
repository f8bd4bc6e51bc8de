"""The schedule that makes sparse switches choose."""

from typing import Any

import keras

from keras_en.arguments import check, integer
from keras_en.keras_private import layers_of
from keras_en.layers import SparseSwitchableNormalization
from keras_en.training import keras_private


class RadiusSchedule(keras.callbacks.Callback):
    """Raises the radius of every `SparseSwitchableNormalization`, step by step.

    `r = sqrt((K - 1) / K) * min(1, i / (steps - 1))` in the training step after `i`
    others    (Shao et al. 2019, Sec. 3.3: from 0 to the radius at which one normalizer
    is left)

    `i` is the optimizer's count of steps, so that a training that goes on, from a
    checkpoint or in another `fit`, goes on with its radius. Frozen layers keep theirs.

    Args:
        steps: Number of training steps, the last of which has the largest radius. The
            paper takes all of the training.

    Raises:
        ValueError, TypeError: `steps` is no integer of at least 2; when training
            begins, the network holds no layer of the kind.

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

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = integer("steps", steps, minimum=2)

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
                layer.set_radius(min(1.0, step / (self.steps - 1)))

    def _switches(self):
        return [
            layer
            for layer in layers_of(self.model)
            if isinstance(layer, SparseSwitchableNormalization)
        ]
