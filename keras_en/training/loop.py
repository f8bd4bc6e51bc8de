"""Training and evaluation whose results do not depend on how batches are split."""

import itertools
import os
from typing import Any, Literal

import keras

from keras_en.arguments import check, integer
from keras_en.training import checkpoints, feed
from keras_en.training.callbacks import callback_list
from keras_en.training.finite import Watch
from keras_en.training.identity import identity
from keras_en.training.steps import Run
from keras_en.training.strategies import equal_on_all_workers, is_chief
from keras_en.training.termination import Termination, put_off
from keras_en.variables import check_finite


def fit(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int = 32,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: list[keras.callbacks.Callback] | None = None,
    validation_data: Any = None,
    validation_batch_size: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool | Literal["force"] = False,
) -> keras.callbacks.History:
    """Trains `model` as `model.fit` does, on one device, many, or many hosts.

    The loss of a step is that of the global batch, `sum_r (n_r / n) loss_r` over
    replicas `r` with `n_r` of its `n` samples, so gradients, and with synchronized
    normalization layers whole steps, are those of one device with the whole batch,
    however it is split: uneven first and last batches, and replicas left without a
    sample, included. Gradients are summed over replicas before the optimizer clips or
    accumulates them. So losses have to be means over samples, a scalar or one for each
    sample, from a function or a `compute_loss`; another, such as `keras.losses.Dice()`
    of a whole batch, is refused on several replicas. What layers add with `add_loss`
    counts as a mean, too. One exception: the loss of an output with a Keras mask is a
    mean over what the mask leaves of each replica's part, not over samples.

    The strategy is the one whose scope the model was built and compiled in. Every
    worker calls this with the same arguments and sees the same global batches; each
    takes its part. Callbacks run on every worker, with equal logs, but those that
    write files (`ModelCheckpoint`, `CSVLogger`, `TensorBoard`) and the progress bar
    only on the chief.

    `model.compile(jit_compile=True)`: on one device the whole step is compiled; with
    several replicas what the normalization layers compute before and behind their
    collectives.

    SIGTERM, by which clusters and systems end a process, waits for the end of the step
    and a checkpoint, if there is a folder for one and no other worker.

    Args:
        model: Compiled `keras.Model` without a `train_step` of its own.
        x: Arrays, one or a structure of them; or an iterable of global batches,
            `(x, y)` or `(x, y, sample_weight)`, such as a `tf.data.Dataset`; or a
            function from the number of the epoch to such an iterable. An iterable
            must give every worker the same batches, and a resumed run the same as the
            interrupted one: batches that are random need the function.
        y, sample_weight: As `x`, if that is arrays.
        batch_size: Samples of a global batch, if `x` is arrays. The last one of an
            epoch may be smaller.
        epochs: Number of the epoch after the last.
        verbose: As in `model.fit`.
        callbacks: List of `keras.callbacks.Callback`. A `training.progress.Progress`
            stands in the place of Keras's progress bar.
        validation_data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or an
            iterable as `x`, evaluated after each epoch; see `evaluate`.
        validation_batch_size: `None`: `batch_size`.
        shuffle: Whether arrays are shuffled, in another order every epoch.
        seed: Integer, the seed of that order.
        checkpoint: Folder for `checkpoint.npz`, which every worker can read and the
            chief writes: weights, optimizer, step, epoch, history, metrics, random
            states. `None`: none is written. One run at a time writes to it.
        checkpoint_every: Steps between checkpoints. `None`: at the end of each epoch
            only. An optimizer that accumulates gradients has none between two of its
            updates, where checkpoints wait for the next.
        resume: If `True`, go on from the checkpoint, if there is one; a line says
            where, unless `verbose` is 0. The run ends with the weights of one that was
            never interrupted; one that a callback stopped has ended. What callbacks
            remember is not part of a checkpoint. Layers (but for the momentum of
            moving statistics), optimizer (but for its learning rate), `batch_size`,
            `seed`, `shuffle` and the steps of an epoch have to be those of the
            checkpoint; "force" goes on with others, as long as the variables have the
            same shapes and dtypes. A model compiled with the learning rate that the run
            was started with goes on with that of the checkpoint, which callbacks may
            have changed; one with another keeps it.

    Returns:
        `keras.callbacks.History`, as `model.fit`.

    Raises:
        FloatingPointError: The loss or, where a checkpoint is due, a weight or a
            moving statistic is not finite; it names the step and the first layer. The
            losses are looked at before a checkpoint is written, after every epoch and
            every 100 steps; the checkpoint stays that of before. A step whose loss is
            not finite updates the weights with gradients of zero.
        RuntimeError: The backend is not TensorFlow; another run writes to
            `checkpoint`; or another worker is gone: all have to be started again, with
            `resume=True`.
        ValueError, TypeError: An argument is not among those listed; the model is not
            compiled, has a `train_step` of its own or no trainable weights, holds NaN,
            was compiled outside its strategy's scope, or has a loss that does not
            average over samples; the checkpoint is not of this run, has more epochs
            than `epochs`, or is not the same for all workers.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_en import training
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.zeros((5, 2)), np.zeros((5, 1))
    >>> history = training.fit(model, x, y, batch_size=2, epochs=2, verbose=0)
    >>> history.epoch, history.history
    ([0, 1], {'loss': [0.0, 0.0]})
    """
    run = Run(model)
    epochs = integer("epochs", epochs, minimum=0)
    batch_size = integer("batch_size", batch_size, minimum=1)
    if checkpoint_every is not None:
        checkpoint_every = integer("checkpoint_every", checkpoint_every, minimum=1)
    complete = checkpoint is not None or not (resume or checkpoint_every)
    allowed = "a folder where `resume` or `checkpoint_every` is given"
    check(complete, "checkpoint", allowed, checkpoint)
    check(resume in (True, False, "force"), "resume", 'a bool or "force"', resume)
    data = feed.source(x, y, sample_weight, batch_size, shuffle, seed)
    held_out = None
    if validation_data is not None:
        size = validation_batch_size or batch_size
        held_out = feed.source(*feed.unpacked(validation_data), size)
    events = callback_list(model, callbacks, verbose, epochs, data.steps)
    with checkpoints.folder_of_run(checkpoint, run.strategy):
        options = {"batch_size": batch_size, "seed": seed, "shuffle": shuffle}
        same = identity(model, data, run.build(data), **options)
        # Workers would have to agree on the step.
        alone = checkpoint is not None and run.strategy.cluster_resolver is None
        with run.workers(), run.training(), put_off(alone) as termination:
            training = _Training(
                run, data, held_out, events, checkpoint, checkpoint_every, same
            )
            training.termination = termination
            training.train(epochs, resume, said=verbose != 0)
    return training.history


def evaluate(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int = 32,
    verbose: int | str = "auto",
) -> dict[str, Any]:
    """Metrics over data, every sample counted exactly once, on however many replicas.

    Args:
        model: Compiled `keras.Model`.
        x, y, sample_weight, batch_size: As in `fit`; nothing is shuffled.
        verbose: As in `model.evaluate`.

    Returns:
        Dictionary from metric to number, the loss included.

    Raises:
        As `fit`.

    Example: the loss is `(1 + 1 + 4) / 3`, though batches hold two and one sample.

    >>> import keras
    >>> import numpy as np
    >>> from keras_en import training
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.zeros((3, 2)), np.array([[1.0], [1.0], [2.0]])
    >>> training.evaluate(model, x, y, batch_size=2, verbose=0)
    {'loss': 2.0}
    """
    run = Run(model)
    batch_size = integer("batch_size", batch_size, minimum=1)
    data = feed.source(x, y, sample_weight, batch_size)
    run.build(data)
    events = callback_list(model, None, verbose, 1, data.steps, history=False)
    with run.workers():
        return run.evaluate(data, events)


class _Training:
    """A call of `fit`, whose arguments are checked."""

    def __init__(self, run, data, held_out, events, checkpoint, checkpoint_every, same):
        self.run, self.data, self.held_out = run, data, held_out
        self.events, self.history = events, run.model.history
        self.checkpoint, self.checkpoint_every = checkpoint, checkpoint_every
        self.same, self.watch = same, Watch(run.model, data)
        self.termination = Termination()
        self.logs, self.rates = None, []

    def train(self, epochs, resume, said):
        """Trains to the end of so many epochs, or until a callback stops."""
        model = self.run.model
        start, load, line = self._start(epochs, resume)
        if line and said and is_chief(self.run.strategy):
            print(line)
        check_finite(model)
        model.stop_training = False
        self.events.on_train_begin()
        self.history.epoch, self.history.history = start.epochs, start.history
        for epoch in range(epochs if start.stopped else start.epoch, epochs):
            first = start.step if epoch == start.epoch else 0
            self.events.on_epoch_begin(epoch)
            if first:
                # It has begun before: what callbacks did then is in the checkpoint.
                load()
            else:
                model.reset_metrics()
            self._train_steps(epoch, first)
            self._end_epoch(epoch)
            if model.stop_training:
                break
        if epochs > 0:
            # Averages, if it keeps any, become the weights.
            model.optimizer.finalize_variable_values(model.trainable_weights)
        self.events.on_train_end(self.logs)

    def _start(self, epochs, resume):
        """How far the run is, loaded, a function that loads it again, and a line that
        says so."""
        start, load, line = checkpoints.read(
            self.checkpoint, self.run.model, resume, self.same
        )
        numbers = [start.epoch, start.step, start.steps_done]
        equal = equal_on_all_workers(self.run.strategy, numbers)
        allowed = "a folder that every worker can read, with one checkpoint for all"
        check(equal, "checkpoint", allowed, self.checkpoint)
        done = start.epoch + (start.step > 0)
        allowed = f"at least {done}: so many the checkpoint has begun"
        check(start.stopped or epochs >= done, "epochs", allowed, epochs)
        steps = self.data.steps
        allowed = f"a checkpoint of a run of {steps} steps an epoch"
        fits = steps is None or start.step <= steps
        check(fits, "checkpoint", allowed, start.step, "step")
        load()
        self.run.steps_done, self.rates = start.steps_done, start.rates
        return start, load, line

    def _train_steps(self, epoch, first):
        """The steps of an epoch, from step `first`."""
        steps = enumerate(self.data.batches(epoch))
        unsaved = 0
        for step, batch in itertools.islice(steps, first, None):
            self.events.on_train_batch_begin(step)
            logs = self.run.train(batch, epoch, step)
            self.watch.note(epoch, step, logs)
            self.events.on_train_batch_end(step, logs)
            unsaved += 1
            if self.run.model.stop_training:
                break
            # Before the first step there is nothing that a checkpoint would keep.
            self.termination.waits = True
            if self.termination.asked and self._save(epoch, step + 1):
                unsaved = 0
                self.termination.deliver()
            due = self.checkpoint_every and unsaved >= self.checkpoint_every
            if due and self._save(epoch, step + 1):
                unsaved = 0

    def _end_epoch(self, epoch):
        # Before callbacks write files of their own.
        self.watch.check_losses()
        logs = self.run.metrics()
        if self.held_out is not None:
            metrics = self.run.evaluate(self.held_out, self.events)
            logs.update({f"val_{name}": value for name, value in metrics.items()})
        self.logs = logs
        self.events.on_epoch_end(epoch, logs)
        if self._save(epoch + 1, 0) and self.termination.asked:
            self.termination.deliver()

    def _save(self, epoch, step):
        """Writes a checkpoint that goes on at this step; returns whether it could."""
        run, history = self.run, self.history
        # Between two of its updates an optimizer holds gradients.
        if self.checkpoint is None or run.between_updates:
            return False
        self.watch.check_losses()
        self.watch.check_variables(f"epoch {epoch}, step {step}")
        steps_done, stopped = run.steps_done, bool(run.model.stop_training)
        progress = checkpoints.Progress(
            epoch,
            step,
            steps_done,
            stopped,
            history.epoch,
            history.history,
            self.rates,
        )
        checkpoints.save(self.checkpoint, run.model, progress, self.same)
        return True
