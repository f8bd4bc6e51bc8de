"""`keras.Model.fit` with the checkpoints of `keras_en.training.fit`, on the backends
that have no `tf.distribute`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_en.arguments import require
from keras_en.training import checkpoints, feed, keras_private
from keras_en.training.finite import Watch
from keras_en.training.identity import identity
from keras_en.variables import check_finite


def fit(
    model: keras.Model,
    batches: Callable[[int], Any],
    *,
    batch_size: int,
    seed: int,
    epochs: int,
    verbose: int | str,
    callbacks: list[keras.callbacks.Callback],
    validation_data: Any,
    checkpoint: Any,
    checkpoint_every: int | None,
    resume: Any,
) -> keras.callbacks.History:
    """As `keras_en.training.fit`, with checkpoints at the end of epochs only, and
    without a progress bar.

    Raises:
        ValueError: `checkpoint_every` is not `None`; see also there.
    """
    if checkpoint_every is not None:
        raise ValueError(
            "--checkpoint-every needs the TensorFlow backend: elsewhere checkpoints "
            f"are written at the end of each epoch. Received: {checkpoint_every}"
        )
    data, held_out = Batches(batches), Batches(lambda epoch: validation_data)
    with checkpoints.folder_of_run(checkpoint, None):
        keras_private.build(model, data[0])
        source = feed.Source(batches, len(data))
        options = {"batch_size": batch_size, "seed": seed}
        same = identity(model, source, feed.length(data[0]), **options)
        start, load, line = checkpoints.read(checkpoint, model, resume, same)
        if line and verbose != 0:
            print(line)
        load()
        check_finite(model)
        keeper = _Keeper(data, Watch(model, source), start, checkpoint, same)
        history = keras.callbacks.History()
        ready = [*callbacks, keeper, history]
        # Keras begins a history anew: it is filled in behind that.
        model.history = keeper.history = history
        if start.stopped or start.epoch >= epochs:
            # As `fit` ends: averages, if the optimizer keeps any, become the weights.
            model.optimizer.finalize_variable_values(model.trainable_variables)
            history.set_model(model)
            history.epoch, history.history = start.epochs, start.history
            return history
        model.fit(
            data,
            validation_data=held_out,
            # Batches have an order of their own.
            shuffle=False,
            epochs=epochs,
            initial_epoch=start.epoch,
            verbose=0,
            callbacks=ready,
        )
    return history


class Batches(keras.utils.PyDataset):
    """The batches of an epoch, in their order: for `fit(shuffle=False)`.

    Raises:
        ValueError: By `[number]`, where another one is next.
    """

    def __init__(self, batches):
        super().__init__()
        self.epoch, self._batches = 0, batches
        self._length, self._iterator, self._next = len(batches(0)), iter(()), 0

    def __len__(self):
        return self._length

    def __getitem__(self, number):
        if number == 0:
            self._iterator, self._next = iter(self._batches(self.epoch)), 0
        require(
            number == self._next,
            "Batches",
            "be asked for in their order, by fit(shuffle=False)",
            f"batch {number}",
        )
        self._next += 1
        return keras.tree.map_structure(np.asarray, next(self._iterator))


class _Keeper(keras.callbacks.Callback):
    """Tells the data which epoch it is, and writes checkpoints."""

    def __init__(self, data, watch, start, folder, same):
        super().__init__()
        self.history = None
        self._data, self._watch, self._start = data, watch, start
        self._folder, self._same = folder, same
        self._steps, self._epoch = start.steps_done, start.epoch

    def on_train_begin(self, logs=None):
        # Before `History`, which stands behind it, forgets them.
        self._epochs, self._logs = list(self._start.epochs), dict(self._start.history)

    def on_epoch_begin(self, epoch, logs=None):
        self._data.epoch = self._epoch = epoch
        if epoch == self._start.epoch:
            self.history.epoch, self.history.history = self._epochs, self._logs

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        self._watch.note(self._epoch, batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self._watch.check_losses()
        self._watch.check_variables(f"epoch {epoch + 1}, step 0")
        history = {k: [*self.history.history.get(k, []), v] for k, v in logs.items()}
        progress = checkpoints.Progress(
            epoch=epoch + 1,
            steps_done=self._steps,
            stopped=bool(self.model.stop_training),
            epochs=[*self.history.epoch, epoch],
            history=history,
            rates=self._start.rates,
        )
        checkpoints.save(self._folder, self.model, progress, self._same)
