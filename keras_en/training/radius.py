"""The schedule that makes sparse switches choose."""

import keras

from keras_en.arguments import check, integer
from keras_en.keras_private import layers_of
from keras_en.layers import SparseSwitchableNormalization


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
    """

    def __init__(self, steps):
        super().__init__()
        self.steps = integer("steps", steps, minimum=2)

    def on_train_begin(self, logs=None):
        check(
            self._layers(),
            "model",
            "a network with SparseSwitchableNormalization, for RadiusSchedule",
            self.model.name,
            "name",
        )

    def on_train_batch_begin(self, batch, logs=None):
        # On JAX asking for the model is what makes its variables current.
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        step = int(keras.ops.convert_to_numpy(optimizer._iterations.value))
        for layer in self._layers():
            if layer.trainable:
                layer.set_radius(min(1.0, step / (self.steps - 1)))

    def _layers(self):
        return [
            layer
            for layer in layers_of(self.model)
            if isinstance(layer, SparseSwitchableNormalization)
        ]
