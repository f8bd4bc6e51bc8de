"""Training and evaluation whose results do not depend on how batches are split."""

import contextlib
import functools

import keras

from keras_en import replicas
from keras_en.arguments import check, integer
from keras_en.training import checkpoints, feed
from keras_en.training.strategies import is_chief

# What writes files is the chief's; all others decide from logs, which are equal.
_WRITERS = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
)


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
    accumulates them.

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
        validation_data: `(x, y)` or `(x, y, sample_weight)` of arrays, or an iterable
            as `x`, evaluated after each epoch; see `evaluate`.
        validation_batch_size: `None`: `batch_size`.
        shuffle: Whether arrays are shuffled, in another order every epoch.
        seed: Integer, the seed of that order.
        checkpoint: Folder for `checkpoint.npz`, which every worker can read and the
            chief writes: weights, optimizer, step, epoch, history, metrics, random
            states. `None`: none is written.
        checkpoint_every: Steps between checkpoints. `None`: at the end of each epoch
            only.
        resume: If `True`, go on from the checkpoint, if there is one. The run ends
            with the weights of one that was never interrupted. What callbacks
            remember is not part of a checkpoint.

    Returns:
        `keras.callbacks.History`, as `model.fit`.

    Raises:
        RuntimeError: The backend is not TensorFlow, or another worker is gone: all
            have to be started again, with `resume=True`.
        ValueError, TypeError: An argument is not among those listed; the model is not
            compiled, has a `train_step` of its own, was compiled outside its
            strategy's scope, or has a loss that does not average over samples.
    """
    run = _Run(model)
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
        arrays = isinstance(validation_data, list | tuple)
        parts = validation_data if arrays else (validation_data,)
        parts = keras.utils.unpack_x_y_sample_weight(tuple(parts))
        size = validation_batch_size or batch_size
        held_out = feed.source(*parts, size, False, 0)
    listed = run.callbacks(callbacks, verbose, epochs, data.steps)
    run.build(next(iter(data.batches(0)), None))

    progress = {"epoch": 0, "step": 0, "epochs": [], "history": {}}
    if resume:
        progress = checkpoints.restore(checkpoint, model) or progress
    model.stop_training = False
    with run:
        listed.on_train_begin()
        history = model.history
        history.epoch, history.history = progress["epochs"], progress["history"]
        first, skipped = progress["epoch"], progress["step"]

        def save(epoch, step):
            if checkpoint is not None:
                place = {"epoch": epoch, "step": step}
                kept = {"epochs": history.epoch, "history": history.history}
                checkpoints.save(checkpoint, model, {**place, **kept}, run.chief)

        for epoch in range(first, epochs):
            if not skipped:
                model.reset_metrics()
            listed.on_epoch_begin(epoch)
            since = 0
            for step, batch in enumerate(data.batches(epoch)):
                if step < skipped:
                    continue
                listed.on_train_batch_begin(step)
                logs = run.train(batch, epoch, step)
                listed.on_train_batch_end(step, logs)
                since += 1
                # Between two of its updates an optimizer holds gradients.
                if checkpoint_every and since >= checkpoint_every and run.updated:
                    save(epoch, step + 1)
                    since = 0
                if model.stop_training:
                    break
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
        listed.on_train_end(logs=None)
    return history


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
    run = _Run(model)
    batch_size = integer("batch_size", batch_size, minimum=1)
    data = feed.source(x, y, sample_weight, batch_size, False, 0)
    run.build(next(iter(data.batches(0)), None))
    listed = run.callbacks(None, verbose, 1, data.steps)
    with run:
        return run.evaluate(data, listed)


class _Run:
    """The compiled steps of a model under its strategy.

    Attributes:
        chief: Whether this process writes and prints.
        place: Where the run is, for errors.
        taken: Training steps that the optimizer has seen.
        updated: Whether the last of them updated weights, which an optimizer that
            accumulates gradients does not always do.
    """

    def __init__(self, model):
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "keras_en.training needs the TensorFlow backend; on JAX, model.fit "
                "under keras.distribution does the same. "
                f"Received: KERAS_BACKEND={keras.backend.backend()}"
            )
        import tensorflow as tf

        if not isinstance(model, keras.Model) or not model.compiled:
            raise ValueError(
                f"Argument `model` must be a compiled keras.Model. Received: {model!r}"
            )
        for name in ("train_step", "test_step"):
            if getattr(type(model), name) is not getattr(keras.Model, name):
                raise ValueError(
                    f"Argument `model` must not have a `{name}` of its own, which "
                    f"would not be called. Received: {model!r}"
                )
        self.model = model
        self.strategy = model.distribute_strategy
        self.replicas = self.strategy.num_replicas_in_sync
        self.chief = is_chief(self.strategy)
        optimizer = model.optimizer
        # That of a mixed_float16 model wraps another.
        self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if self.optimizer._distribution_strategy is not self.strategy:
            raise ValueError(
                "Argument `model` must be compiled, and its optimizer made, in the "
                "scope of the strategy that it was built in. "
                f"Received: {model!r}"
            )
        if self.replicas > 1:
            _check_losses(model)
            check(
                not model.run_eagerly,
                "model",
                "compiled with run_eagerly=False for several replicas",
                model,
            )
        self.accumulated = self.optimizer.gradient_accumulation_steps or 1
        self.updated = True
        self.place = "before the first step"
        whole = bool(model.jit_compile) and self.replicas == 1
        self._compiled_parts = bool(model.jit_compile) and self.replicas > 1

        def compiled(function):
            if model.run_eagerly:
                return function
            # `n`, a number of Python's, has every worker trace when any other does:
            # a trace numbers its collectives, and the numbers have to match.
            return tf.function(function, jit_compile=whole, autograph=False)

        self._update = compiled(functools.partial(self._train_step, True))
        self._accumulate = compiled(functools.partial(self._train_step, False))
        self._test = compiled(self._test_step)

    def callbacks(self, callbacks, verbose, epochs, steps):
        given = [] if callbacks is None else list(keras.tree.flatten(callbacks))
        for callback in given:
            if isinstance(callback, keras.callbacks.BackupAndRestore):
                raise ValueError(
                    "Argument `callbacks` must not hold BackupAndRestore: `checkpoint` "
                    f"and `resume` do its work. Received: {callback!r}"
                )
        if not self.chief:
            given = [c for c in given if not isinstance(c, _WRITERS)]
        verbose = verbose if self.chief else 0
        return keras.callbacks.CallbackList(
            given,
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
            model=self.model,
        )

    def build(self, batch):
        """Makes what the first step would make, in the strategy's scope."""
        if batch is None:
            raise ValueError("Argument `x` must yield a batch. Received: none")
        feed.length(batch)
        with self.strategy.scope():
            self.model._symbolic_build(data_batch=batch)

    def __enter__(self):
        self.taken = int(keras.ops.convert_to_numpy(self.optimizer._iterations.value))
        # The gradients that reach it are summed over the replicas, and accumulated.
        self.optimizer._all_reduce_sum_gradients = list
        self.optimizer.gradient_accumulation_steps = None
        return self

    def __exit__(self, kind, error, traceback):
        import tensorflow as tf

        del self.optimizer._all_reduce_sum_gradients
        if self.accumulated > 1:
            self.optimizer.gradient_accumulation_steps = self.accumulated
        gone = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.InternalError,
        )
        if self.strategy.cluster_resolver is not None and isinstance(error, gone):
            first = str(error).strip().splitlines()[0]
            raise RuntimeError(
                f"A worker of the cluster is gone or cannot be reached ({self.place}): "
                f"start all of them again, with resume. {kind.__name__}: {first}"
            ) from error

    def train(self, batch, epoch, step):
        """One step; the metrics so far, tensors."""
        self.taken += 1
        self.updated = self.taken % self.accumulated == 0
        function = self._update if self.updated else self._accumulate
        self.place = f"epoch {epoch}, step {step}"
        return function(*feed.split(self.strategy, batch))

    def evaluate(self, data, callbacks):
        """Metrics over all batches of `data`, numbers."""
        self.model.reset_metrics()
        callbacks.on_test_begin()
        for step, batch in enumerate(data.batches(0)):
            callbacks.on_test_batch_begin(step)
            self.place = f"evaluation, step {step}"
            logs = self._test(*feed.split(self.strategy, batch))
            callbacks.on_test_batch_end(step, logs)
        logs = self.metrics()
        callbacks.on_test_end(logs)
        return logs

    def metrics(self):
        """Those of all replicas so far, numbers."""
        found = self.model.get_metrics_result()
        return {name: float(value) for name, value in found.items()}

    def _train_step(self, update, n, batch, share):
        import tensorflow as tf

        model, optimizer = self.model, self.model.optimizer

        def replica(batch, share):
            with tf.GradientTape() as tape:
                loss = self._loss(n, batch, training=True)
                # This replica's summand of the global batch's loss.
                loss = loss * tf.cast(share, loss.dtype)
                scaled = optimizer.scale_loss(loss)
            variables = model.trainable_variables
            slopes = tape.gradient(scaled, [v.value for v in variables])
            known = [
                (slope, variable)
                for slope, variable in zip(slopes, variables, strict=True)
                if slope is not None
            ]
            slopes, variables = zip(*known, strict=True)
            self._apply(update, slopes, variables)

        with self._tracing():
            self.strategy.run(replica, (batch, share))
            return model.get_metrics_result()

    def _apply(self, update, slopes, variables):
        import tensorflow as tf

        held = []
        if self.accumulated > 1:
            index = self.optimizer._get_variable_index
            held = [self.optimizer._accumulated_gradients[index(v)] for v in variables]
        if not update:
            for kept, slope in zip(held, slopes, strict=True):
                kept.assign_add(slope)
            self.optimizer._iterations.assign_add(1)
            return
        if held:
            slopes = [
                (kept + slope) / self.accumulated
                for kept, slope in zip(held, slopes, strict=True)
            ]
        if self.replicas > 1:
            context = tf.distribute.get_replica_context()
            slopes = context.all_reduce(tf.distribute.ReduceOp.SUM, list(slopes))
        self.model.optimizer.apply(slopes, variables)
        for kept in held:
            kept.assign(tf.zeros_like(kept.value))

    def _test_step(self, n, batch, share):
        def replica(batch):
            self._loss(n, batch, training=False)

        with self._tracing():
            self.strategy.run(replica, (batch,))
            return self.model.get_metrics_result()

    def _loss(self, n, batch, training):
        """The mean loss of this replica's samples; updates the metrics by them."""
        import tensorflow as tf

        model, absent = self.model, self._is_absent(n)
        x, y, weight = batch
        with replicas.standing_in(absent):
            if model._call_has_training_arg:
                outputs = model(x, training=training)
            else:
                outputs = model(x)
        loss = model.compute_loss(
            x=x, y=y, y_pred=outputs, sample_weight=weight, training=training
        )
        # Keras has divided it by the number of replicas.
        loss = loss * self.replicas
        if not absent:
            leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
            samples = tf.shape(leaves[0])[0]
            model._loss_tracker.update_state(loss, sample_weight=samples)
            model.compute_metrics(x, y, outputs, sample_weight=weight)
        return loss

    def _is_absent(self, n):
        """Whether the replica that is being traced has none of `n` samples."""
        if n >= self.replicas:
            return False
        import tensorflow as tf

        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        return int(tf.get_static_value(place)) >= n

    @contextlib.contextmanager
    def _tracing(self):
        with replicas.compiled_parts(self._compiled_parts):
            yield


def _check_losses(model):
    for loss in keras.tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        check(
            reduction in ("sum_over_batch_size", "mean", "auto"),
            "model",
            "compiled with losses that average over samples, reduction="
            '"sum_over_batch_size", for several replicas',
            reduction,
            "loss.reduction",
        )
