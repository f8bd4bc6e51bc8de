"""Training and evaluation whose results do not depend on how batches are split."""

import keras

from keras_en.arguments import check, integer
from keras_en.training import checkpoints, feed
from keras_en.training.steps import Run


def fit(
    model,
    x=None,
    y=None,
    *,
    sample_weight=None,
    batch_size=32,
    epochs=1,
    verbose="auto",
    callbacks=None,
    validation_data=None,
    validation_batch_size=None,
    shuffle=True,
    seed=0,
    checkpoint=None,
    checkpoint_every=None,
    resume=False,
):
    """Trains `model` as `model.fit` does, on one device, many, or many hosts.

    The loss of a step is that of the global batch, `sum_r (n_r / n) loss_r` over
    replicas `r` with `n_r` of its `n` samples, so gradients, and with synchronized
    normalization layers whole steps, are those of one device with the whole batch,
    however it is split: uneven first and last batches, and replicas left without a
    sample, included. Gradients are summed over replicas before the optimizer clips or
    accumulates them. One exception: the loss of an output with a Keras mask is a mean
    over what the mask leaves of each replica's part, not over samples.

    The strategy is the one whose scope the model was built and compiled in. Every
    worker calls this with the same arguments and sees the same global batches; each
    takes its part. Callbacks run on every worker, with equal logs, but those that
    write files (`ModelCheckpoint`, `CSVLogger`, `TensorBoard`) and the progress bar
    only on the chief.

    `model.compile(jit_compile=True)`: on one device the whole step is compiled; with
    several replicas what the normalization layers compute before and behind their
    collectives.

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
        callbacks: List of `keras.callbacks.Callback`.
        validation_data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or an
            iterable as `x`, evaluated after each epoch; see `evaluate`.
        validation_batch_size: `None`: `batch_size`.
        shuffle: Whether arrays are shuffled, in another order every epoch.
        seed: Integer, the seed of that order.
        checkpoint: Folder for `checkpoint.npz`, which every worker can read and the
            chief writes: weights, optimizer, step, epoch, history, metrics, random
            states. `None`: none is written.
        checkpoint_every: Steps between checkpoints. `None`: at the end of each epoch
            only. An optimizer that accumulates gradients has none between two of its
            updates, where checkpoints wait for the next.
        resume: If `True`, go on from the checkpoint, if there is one. The run ends
            with the weights of one that was never interrupted; one that a callback
            stopped has ended. What callbacks remember is not part of a checkpoint.

    Returns:
        `keras.callbacks.History`, as `model.fit`.

    Raises:
        RuntimeError: The backend is not TensorFlow, or another worker is gone: all
            have to be started again, with `resume=True`.
        ValueError, TypeError: An argument is not among those listed; the model is not
            compiled, has a `train_step` of its own or no trainable weights, was
            compiled outside its strategy's scope, or has a loss that does not average
            over samples; the checkpoint is not of this model, or not the same for all
            workers.
    """
    run = Run(model)
    epochs = integer("epochs", epochs, minimum=0)
    batch_size = integer("batch_size", batch_size, minimum=1)
    if checkpoint_every is not None:
        checkpoint_every = integer("checkpoint_every", checkpoint_every, minimum=1)
    check(
        checkpoint is not None or not (resume or checkpoint_every),
        "checkpoint",
        "a folder where `resume` or `checkpoint_every` is given",
        checkpoint,
    )
    data = feed.source(x, y, sample_weight, batch_size, shuffle, seed)
    held_out = None
    if validation_data is not None:
        parts = feed.parts(validation_data)
        size = validation_batch_size or batch_size
        held_out = feed.source(*parts, size, False, 0)
    listed = run.callbacks(callbacks, verbose, epochs, data.steps, history=True)
    history = model.history
    run.build(next(iter(data.batches(0)), None))

    with run, run.training():
        progress, load = _start(run, checkpoint, resume)
        first, skipped = progress["epoch"], progress["step"]
        run.taken = progress["taken"]
        model.stop_training = False
        listed.on_train_begin()
        history.epoch, history.history = progress["epochs"], progress["history"]

        def save(epoch, step):
            if checkpoint is not None:
                place = {"epoch": epoch, "step": step, "taken": run.taken}
                place["stopped"] = bool(model.stop_training)
                kept = {"epochs": history.epoch, "history": history.history}
                checkpoints.save(checkpoint, model, {**place, **kept}, run.chief)

        for epoch in range(epochs if progress["stopped"] else first, epochs):
            listed.on_epoch_begin(epoch)
            if skipped:
                # It has begun before: what callbacks did then is in the checkpoint.
                load()
            else:
                model.reset_metrics()
            since = 0
            for step, batch in enumerate(data.batches(epoch)):
                if step < skipped:
                    continue
                listed.on_train_batch_begin(step)
                logs = run.train(batch, epoch, step)
                listed.on_train_batch_end(step, logs)
                since += 1
                if model.stop_training:
                    break
                # Between two of its updates an optimizer holds gradients.
                if checkpoint_every and since >= checkpoint_every and run.updated:
                    save(epoch, step + 1)
                    since = 0
            skipped = 0
            logs = run.metrics()
            if held_out is not None:
                found = run.evaluate(held_out, listed)
                logs.update({f"val_{name}": value for name, value in found.items()})
            listed.on_epoch_end(epoch, logs)
            if run.updated:
                save(epoch + 1, 0)
            if model.stop_training:
                break
        if epochs > 0:
            # Averages, if it keeps any, become the weights.
            model.optimizer.finalize_variable_values(model.trainable_weights)
        listed.on_train_end(logs=None)
    return history


def _start(run, checkpoint, resume):
    """Where a run starts, and a function that loads what it starts from."""
    found = checkpoints.read(checkpoint, run.model) if resume else None
    if found is None:
        taken = int(keras.ops.convert_to_numpy(run.optimizer._iterations.value))
        progress = {"epoch": 0, "step": 0, "taken": taken, "stopped": False}
        found = {**progress, "epochs": [], "history": {}}, lambda: None
    progress, load = found
    run.agree(
        [progress[name] for name in ("epoch", "step", "taken")],
        "Argument `checkpoint` must be a folder that every worker can read, with the "
        f"same checkpoint. Received: {checkpoint}, which is not the same for all",
    )
    load()
    return progress, load


def evaluate(
    model, x=None, y=None, *, sample_weight=None, batch_size=32, verbose="auto"
):
    """Metrics over data, every sample counted exactly once, on however many replicas.

    Args:
        model: Compiled `keras.Model`.
        x, y, sample_weight, batch_size: As in `fit`; nothing is shuffled.
        verbose: As in `model.evaluate`.

    Returns:
        Dictionary from metric to number, the loss included.

    Raises:
        As `fit`.
    """
    run = Run(model)
    batch_size = integer("batch_size", batch_size, minimum=1)
    data = feed.source(x, y, sample_weight, batch_size, False, 0)
    run.build(next(iter(data.batches(0)), None))
    listed = run.callbacks(None, verbose, 1, data.steps, history=False)
    with run:
        return run.evaluate(data, listed)
