"""The callbacks of one process of many."""

import keras

from keras_en.analysis import RatioRecorder
from keras_en.arguments import check
from keras_en.training.progress import Progress
from keras_en.training.strategies import is_chief

# What writes files is the chief's; all others decide from logs, which are equal.
_WRITERS = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
    RatioRecorder,
)


def callback_list(model, callbacks, verbose, epochs, steps, history=True):
    """The callbacks that are for this process, and the chief's progress bar, unless one
    of them is a `Progress`.

    Args:
        callbacks, verbose: As in `keras_en.training.fit`.
        epochs: Number of the epoch after the last.
        steps: Batches an epoch, or `None`.
        history: Whether to set a new `model.history`.

    Returns:
        `keras.callbacks.CallbackList`.
    """
    callbacks = [] if callbacks is None else list(keras.tree.flatten(callbacks))
    allowed = "without BackupAndRestore: `checkpoint` and `resume` do its work"
    for callback in callbacks:
        backup = isinstance(callback, keras.callbacks.BackupAndRestore)
        check(not backup, "callbacks", allowed, callback)
    if not is_chief(model.distribute_strategy):
        callbacks = [c for c in callbacks if not isinstance(c, _WRITERS)]
        verbose = 0
    shown = any(isinstance(callback, Progress) for callback in callbacks)
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=history,
        add_progbar=verbose != 0 and not shown,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
        model=model,
    )
