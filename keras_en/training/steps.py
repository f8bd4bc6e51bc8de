"""One step of training or evaluation under a strategy."""

import contextlib
import functools

import keras
import numpy as np

from keras_en.arguments import check
from keras_en.ops import replicas, tracing
from keras_en.text import one_line
from keras_en.training import feed
from keras_en.training.strategies import is_chief

# What writes files is the chief's; all others decide from logs, which are equal.
_WRITERS = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
)


class Run:
    """The compiled steps of a model under its strategy.

    Attributes:
        chief: Whether this process writes and prints.
        place: Where the run is, for errors.
        taken: Training steps so far.
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
        self.taken, self.updated = 0, True
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

    def callbacks(self, callbacks, verbose, epochs, steps, history):
        """Those given that are for this process, the progress bar, and with `history`
        a new `model.history`."""
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
            add_history=history,
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
        return self

    def __exit__(self, kind, error, traceback):
        import tensorflow as tf

        gone = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.InternalError,
        )
        if self.strategy.cluster_resolver is not None and isinstance(error, gone):
            raise RuntimeError(
                f"A worker of the cluster is gone or cannot be reached ({self.place}): "
                "start all of them again, with resume. "
                f"{kind.__name__}: {one_line(error)}"
            ) from error

    @contextlib.contextmanager
    def training(self):
        """Inside, the optimizer takes gradients that are summed over the replicas and
        accumulated already."""
        optimizer, accumulated = self.optimizer, self.accumulated
        check(
            accumulated == 1 or not optimizer.use_ema,
            "model",
            "compiled with use_ema=False where gradient_accumulation_steps is given",
            optimizer.use_ema,
            "optimizer.use_ema",
        )
        if not self.model.trainable_variables:
            raise ValueError(
                "Argument `model` must have trainable weights. Received: "
                f"{self.model!r}, which has none"
            )

        def apply(gradients, variables):
            # As Keras does without accumulation, which stays set: bias corrections
            # count updates by it.
            gradients = optimizer._clip_gradients(gradients)
            optimizer._apply_weight_decay(variables)
            optimizer._backend_update_step(
                gradients, variables, optimizer.learning_rate
            )

        optimizer._all_reduce_sum_gradients = list
        if accumulated > 1:
            optimizer._backend_apply_gradients = apply
        try:
            yield
        finally:
            del optimizer._all_reduce_sum_gradients
            if accumulated > 1:
                del optimizer._backend_apply_gradients

    def agree(self, numbers, message):
        """Raises `ValueError(message)` unless all workers give the same integers."""
        if self.strategy.cluster_resolver is None or self.replicas == 1:
            return
        import tensorflow as tf

        row = tf.constant([numbers], "int64")
        rows = self.strategy.gather(
            self.strategy.experimental_distribute_values_from_function(lambda _: row),
            axis=0,
        ).numpy()
        if (rows != rows[0]).any():
            raise ValueError(message)

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
        """Those of all replicas so far: numbers, and lists of them."""
        found = self.model.get_metrics_result()
        return {name: np.asarray(value).tolist() for name, value in found.items()}

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

        with tracing.compiled_islands(self._compiled_parts):
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
            slopes = _sum_over_replicas(slopes)
        self.model.optimizer.apply(slopes, variables)
        for kept in held:
            kept.assign(tf.zeros_like(kept.value))

    def _test_step(self, n, batch, share):
        def replica(batch):
            self._loss(n, batch, training=False)

        with tracing.compiled_islands(self._compiled_parts):
            self.strategy.run(replica, (batch,))
            return self.model.get_metrics_result()

    def _loss(self, n, batch, training):
        """The mean loss of this replica's samples; updates the metrics by them."""
        import tensorflow as tf

        model, absent = self.model, feed.is_absent(self.strategy, n)
        x, y, weight = batch
        # A loss of several outputs counts in metrics of its own.
        metrics = [v.value for v in model.metrics_variables] if absent else []
        before = [tf.identity(metric) for metric in metrics]
        with replicas.standing_in(absent):
            if model._call_has_training_arg:
                outputs = model(x, training=training)
            else:
                outputs = model(x)
        loss = model._compute_loss(
            x=x, y=y, y_pred=outputs, sample_weight=weight, training=training
        )
        # Keras has divided it by the number of replicas.
        loss = loss * self.replicas
        if not absent:
            leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
            samples = tf.shape(leaves[0])[0]
            model._loss_tracker.update_state(loss, sample_weight=samples)
            model.compute_metrics(x, y, outputs, sample_weight=weight)
        for metric, value in zip(metrics, before, strict=True):
            metric.assign(value)
        return loss


def _sum_over_replicas(tensors):
    """The sum of each, in one all-reduce a dtype."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    found = list(tensors)
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [i for i, tensor in enumerate(tensors) if tensor.dtype == dtype]
        sums = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [tensors[i] for i in places]
        )
        for i, value in zip(places, sums, strict=True):
            found[i] = value
    return found


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
