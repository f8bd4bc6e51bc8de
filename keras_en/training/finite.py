"""A training whose numbers are no longer finite stops before they reach a file."""

import itertools

import keras
import numpy as np

from keras_en.training import feed
from keras_en.training.checkpoints import value_of

# Reading a loss waits for the device: once in so many steps costs nothing.
EVERY = 100


class Watch:
    """Notes the losses of steps, and reads them rarely.

    The metric `loss` is the mean of an epoch's steps so far: once one is not finite it
    stays so, and the first such step is that of the fault.
    """

    def __init__(self, model, data):
        self._model, self._data = model, data
        self._losses = []

    def note(self, epoch, step, logs):
        """The logs of a step."""
        if "loss" in logs:
            self._losses.append((epoch, step, logs["loss"]))
        if len(self._losses) >= EVERY:
            self.check_losses()

    def check_losses(self):
        """Raises `FloatingPointError` unless all that were noted are finite."""
        losses, self._losses = self._losses, []
        if not losses or np.isfinite(float(losses[-1][2])):
            return
        epoch, step, loss = next(
            entry for entry in losses if not np.isfinite(float(entry[2]))
        )
        parts = self._parts_of_batch(epoch, step)
        if parts:
            reason = f"the batch of this step is not finite in {', '.join(parts)}"
        else:
            name = not_finite(self._model)
            reason = f"the first variable that is not finite: {name}"
        raise FloatingPointError(
            f"The loss is {float(loss)} at epoch {epoch}, step {step}, counted from 0; "
            f"{reason}. Training has ended; a checkpoint is that of before"
        )

    def check_variables(self, position):
        """Raises `FloatingPointError` unless those of the model are finite."""
        name = not_finite(self._model)
        if name is not None:
            raise FloatingPointError(
                f"The variable {name} is not finite before {position}, counted from 0, "
                "though the loss was. Training has ended; a checkpoint is that of "
                "before"
            )

    def _parts_of_batch(self, epoch, step):
        """Which of `x`, `y` and `sample_weight` of a step are not finite."""
        batches = itertools.islice(self._data.batches(epoch), step, step + 1)
        return [
            f"`{name}`"
            for batch in batches
            for name, part in zip(("x", "y", "sample_weight"), batch, strict=False)
            if not all(_is_finite(leaf) for leaf in feed.leaves(part))
        ]


def not_finite(model):
    """The path of the first variable of a model that is not finite, or `None`.

    A constant may be infinite, such as what masks attention: of what is not trained
    only NaN counts.
    """
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            value = value_of(variable)
            wrong = np.isnan(value)
            if variable.trainable:
                wrong = ~np.isfinite(value)
            if wrong.any():
                return variable.path
    return None


def _is_finite(tensor):
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if not keras.backend.is_float_dtype(dtype):
        return True
    return bool(np.isfinite(keras.ops.convert_to_numpy(tensor)).all())
