"""A training whose numbers are no longer finite stops before they reach a file."""

import contextlib
import itertools

import keras
import numpy as np

from keras_en.keras_private import layers_of, own_variables
from keras_en.layers.recording import replaced_calls
from keras_en.training import feed, keras_private
from keras_en.variables import is_finite, not_finite

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
        reason = self._reason(epoch, step)
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

    def _reason(self, epoch, step):
        """What was not finite first in a step, in words."""
        batches = itertools.islice(self._data.batches(epoch), step, step + 1)
        batch = next(batches, None)
        if batch is None:
            return f"the first variable that is not finite: {not_finite(self._model)}"
        parts = [
            f"`{name}`"
            for name, part in zip(("x", "y", "sample_weight"), batch, strict=False)
            if not all(_is_finite(leaf) for leaf in feed.leaves(part))
        ]
        if parts:
            return f"the batch of this step is not finite in {', '.join(parts)}"
        first = first_not_finite(self._model, batch[0])
        if first is None:
            return "every layer is finite on the batch of this step, its loss is not"
        return f"the first of its layers that is not finite: {first}"


def first_not_finite(model, x):
    """The first layer, in the order in which they run, that holds or returns what is
    not finite, and what that is; or `None`.

    The model runs as in evaluation: what a step has put into moving statistics is
    there, and nothing changes.

    Args:
        model: Built `keras.Model`.
        x: The inputs of a batch.
    """
    faults = []

    def watching(layer, original):
        def call(*args, **kwargs):
            if not faults:
                faults.extend(v.path for v in own_variables(layer) if not is_finite(v))
            outputs = original(*args, **kwargs)
            tensors = feed.leaves(outputs)
            if not faults and not all(map(_is_finite, tensors)):
                faults.append(f"{layer.path}, in what it returns")
            return outputs

        return call

    # Inner layers end before those that hold them.
    layers = [layer for layer in layers_of(model) if layer is not model]
    # What goes wrong here, for lack of memory perhaps, must not hide what it is about.
    with (
        contextlib.suppress(Exception),
        replaced_calls((layer, watching(layer, layer.call)) for layer in layers),
    ):
        model(x, **keras_private.mode(model, False))
    return faults[0] if faults else not_finite(model)


def _is_finite(tensor):
    if not hasattr(tensor, "dtype") or _is_symbolic(tensor):
        return True
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if not keras.backend.is_float_dtype(dtype):
        return True
    return bool(np.isfinite(keras.ops.convert_to_numpy(tensor)).all())


def _is_symbolic(tensor):
    """Whether it is one of a function or a loop that TensorFlow traces."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.is_symbolic_tensor(tensor)
