"""One step of training or evaluation under a strategy."""

import contextlib
import functools

import keras
import numpy as np

from keras_en.arguments import check, check_backend
from keras_en.ops import replicas, tracing
from keras_en.text import one_line
from keras_en.training import feed, keras_private, losses
from keras_en.training.updates import Updates


class Run:
    """The compiled steps of a model under its strategy.

    Attributes:
        model: The `keras.Model`.
        strategy: The `tf.distribute.Strategy` that it was built in.
        steps_done: Training steps so far.
        position: Where the run is, for errors.
    """

    def __init__(self, model):
        _check_model(model)
        self.model = model
        self.strategy = model.distribute_strategy
        self.steps_done = 0
        self.position = "before the first step"
        self._replicas = self.strategy.num_replicas_in_sync
        if self._replicas > 1:
            _check_of_several_replicas(model)
        self._updates = Updates(model.optimizer, self._replicas)
        self._update = self._compiled(functools.partial(self._train_step, True))
        self._accumulate = self._compiled(functools.partial(self._train_step, False))
        self._test = self._compiled(self._test_step)

    @property
    def between_updates(self):
        """Whether the optimizer holds gradients that wait for its next update."""
        return self.steps_done % self._updates.every != 0

    def build(self, data):
        """Makes what the first step would make, in the strategy's scope; the number of
        samples of the first batch.

        Raises:
            ValueError: Several replicas cannot compute the model's loss.
        """
        batch = next(iter(data.batches(0)), None)
        check(batch is not None, "x", "data of at least one batch", 0, "batches")
        samples = feed.length(batch)
        with self.strategy.scope():
            keras_private.build(self.model, batch)
            if self._replicas > 1:
                losses.check_mean_over_samples(self.model, batch)
        return samples

    @contextlib.contextmanager
    def workers(self):
        """Inside, an error that a lost worker causes says so."""
        import tensorflow as tf

        errors = tf.errors
        try:
            yield
        except (
            errors.UnavailableError,
            errors.AbortedError,
            errors.CancelledError,
            errors.DeadlineExceededError,
            errors.InternalError,
        ) as error:
            if self.strategy.cluster_resolver is None:
                raise
            raise RuntimeError(
                "A worker of the cluster is gone or cannot be reached "
                f"({self.position}): start all of them again, with resume. "
                f"{type(error).__name__}: {one_line(error)}"
            ) from error

    def training(self):
        """A context, inside of which `train` may be called."""
        model = self.model
        allowed = "a network with trainable weights"
        check(model.trainable_variables, "model", allowed, model.name, "name")
        return self._updates.enabled()

    def train(self, batch, epoch, step):
        """One step; the metrics so far, tensors."""
        self.position = f"epoch {epoch}, step {step}"
        losses.check_labels(self.model, batch[1], self.position)
        self.steps_done += 1
        function = self._accumulate if self.between_updates else self._update
        return function(*feed.split(self.strategy, batch))

    def evaluate(self, data, callbacks):
        """Metrics over all batches of `data`, numbers."""
        self.model.reset_metrics()
        callbacks.on_test_begin()
        for step, batch in enumerate(data.batches(0)):
            callbacks.on_test_batch_begin(step)
            self.position = f"evaluation, step {step}"
            losses.check_labels(self.model, batch[1], self.position)
            logs = self._test(*feed.split(self.strategy, batch))
            callbacks.on_test_batch_end(step, logs)
        logs = self.metrics()
        callbacks.on_test_end(logs)
        return logs

    def metrics(self):
        """Those of all replicas so far: numbers, and lists of them."""
        metrics = self.model.get_metrics_result()
        return {name: np.asarray(value).tolist() for name, value in metrics.items()}

    def _compiled(self, function):
        """`function` of the number of samples and of parts of a batch, as a graph.

        The number is one of Python's, so that every worker traces when any other does:
        a trace numbers its collectives, and the numbers have to match.
        """
        if self.model.run_eagerly:
            return function
        import tensorflow as tf

        whole = bool(self.model.jit_compile) and self._replicas == 1
        return tf.function(function, jit_compile=whole, autograph=False)

    def _train_step(self, update, samples, batch, share):
        def replica(batch, share):
            gradients, variables = self._gradients(samples, batch, share)
            apply = self._updates.apply if update else self._updates.accumulate
            apply(gradients, variables)

        return self._on_replicas(replica, batch, share)

    def _test_step(self, samples, batch, share):
        def replica(batch):
            self._loss(samples, batch, training=False)

        return self._on_replicas(replica, batch)

    def _on_replicas(self, function, *arguments):
        """Runs `function` on each replica's part; the metrics behind it."""
        if self.model.jit_compile and self._replicas > 1:
            tracing.compile_islands()
        self.strategy.run(function, arguments)
        return self.model.get_metrics_result()

    def _gradients(self, samples, batch, share):
        """This replica's summands of the gradients of the global batch's loss, and the
        variables that have some."""
        import tensorflow as tf

        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(samples, batch, training=True)
            loss = loss * tf.cast(share, loss.dtype)
            scaled = self.model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        # The weights of before say which layer it was: of the gradients all are NaN.
        finite = tf.math.is_finite(loss)
        gradients = [_where(finite, gradient) for gradient in gradients]
        pairs = zip(gradients, variables, strict=True)
        return zip(*(pair for pair in pairs if pair[0] is not None), strict=True)

    def _loss(self, samples, batch, training):
        """The mean loss of this replica's samples; updates the metrics by them."""
        import tensorflow as tf

        model, absent = self.model, feed.is_absent(self.strategy, samples)
        x, y, weight = batch
        # A loss of several outputs counts in metrics of its own.
        metrics = [v.value for v in model.metrics_variables] if absent else []
        before = [tf.identity(metric) for metric in metrics]
        with replicas.standing_in(absent):
            outputs = model(x, **keras_private.mode(model, training))
        loss = keras_private.loss(model, x, y, outputs, weight, training)
        if not absent:
            keras_private.count_loss(model, loss, tf.shape(feed.leaves(x)[0])[0])
            model.compute_metrics(x, y, outputs, sample_weight=weight)
        for metric, value in zip(metrics, before, strict=True):
            metric.assign(value)
        return loss


def _where(condition, gradient):
    """A gradient, or 0 where a condition does not hold."""
    import tensorflow as tf

    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = _where(condition, gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return tf.where(condition, gradient, tf.zeros_like(gradient))


def _check_model(model):
    """Raises unless steps of `model` can be compiled here; see `fit`."""
    check_backend(
        "keras_en.training needs the TensorFlow backend; on JAX, model.fit under "
        "keras.distribution does the same"
    )
    compiled = isinstance(model, keras.Model) and model.compiled
    check(compiled, "model", "a compiled keras.Model", model)
    for name in ("train_step", "test_step"):
        inherited = getattr(type(model), name) is getattr(keras.Model, name)
        allowed = f"without a `{name}` of its own, which would not be called"
        check(inherited, "model", allowed, model)
    optimizer = keras_private.inner_optimizer(model.optimizer)
    same = keras_private.strategy(optimizer) is model.distribute_strategy
    allowed = "compiled in the scope of the strategy that it was built in"
    check(same, "model", f"{allowed}, with an optimizer made there", model)


def _check_of_several_replicas(model):
    allowed = "compiled with run_eagerly=False for several replicas"
    check(not model.run_eagerly, "model", allowed, model)
    averages = ("sum_over_batch_size", "mean", "auto")
    allowed = "compiled with losses that average over samples for several replicas, "
    allowed += f'reduction="{averages[0]}"'
    for loss in losses.of(model):
        reduction = getattr(loss, "reduction", averages[0])
        check(reduction in averages, "model", allowed, reduction, "loss.reduction")
