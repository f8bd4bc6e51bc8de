"""The schedule that makes sparse switches choose."""

import keras

from keras_en.arguments import check, integer
from keras_en.layers import SparseSwitchableNormalization


class RadiusSchedule(keras.callbacks.Callback):
    """Raises the radius of every `SparseSwitchableNormalization`, step by step.

    `r = sqrt((K - 1) / K) * min(1, step / steps)`    (Shao et al. 2019, Sec. 3.3: from
    0 to the radius at which one normalizer is left)

    Frozen layers, and steps behind the last, keep theirs.

    Args:
        steps: Number of training steps in which the radius grows: at the first it is 0.
            The paper takes all of the training.
        initial_step: That of the first step, of a training that goes on.

    Raises:
        ValueError, TypeError: `steps` is no integer of at least 1, `initial_step` none
            of at least 0; when training begins, the network holds no layer of the kind.
    """

    def __init__(self, steps, initial_step=0):
        super().__init__()
        self.steps = integer("steps", steps, minimum=1)
        self.step = integer("initial_step", initial_step, minimum=0)

    def on_train_begin(self, logs=None):
        self.layers = [
            layer
            for layer in self.model._flatten_layers()
            if isinstance(layer, SparseSwitchableNormalization)
        ]
        check(
            self.layers,
            "model",
            "a network with SparseSwitchableNormalization, for RadiusSchedule",
            self.model.name,
            "name",
        )

    def on_train_batch_begin(self, batch, logs=None):
        for layer in self.layers:
            if layer.trainable:
                layer.set_radius(min(1.0, self.step / self.steps))
        self.step += 1
