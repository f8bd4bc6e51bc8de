"""Batch statistics across the replicas of a `tf.distribute` strategy."""

import contextlib
import threading

import keras

from keras_en import keras_private
from keras_en.ops import moments, tracing

# Of one replica, which MirroredStrategy traces in a thread of its own.
_local = threading.local()


def count():
    """Replicas that hold parts of the global batch: 1 on JAX, where arrays are global,
    and outside a strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def check_strategy():
    """Raises unless batch statistics can be had in the strategy that is in scope.

    Raises:
        ValueError: `ParameterServerStrategy`, whose workers never meet.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            "Batch statistics need a strategy whose replicas run in step: "
            "MirroredStrategy, MultiWorkerMirroredStrategy, TPUStrategy, "
            "OneDeviceStrategy or none. "
            f"Received: strategy={type(strategy).__name__}"
        )


def merge(batch):
    """Count-weighted batch moments over all replicas, with one all-reduce.

    `c = sum_r c_r`, `mu = sum_r c_r m_r / c`,
    `var = sum_r c_r (v_r + m_r^2) / c - mu^2` over replicas `r`, all in float64: what
    a difference of squares loses of its 53 bits, 27 at a mean of 1e4 standard
    deviations, float32 never had. So `2C + 1` numbers travel, or `3C` where a mask
    tells channels apart, however many replicas there are; rows of all replicas, merged
    without a difference, would be `R` times as many. An empty replica
    counts 0. The derivative needs one all-reduce, too.

    Not for loops and branches of a graph, where TensorFlow lets no two replicas meet.

    Args:
        batch: `moments.Moments` of this replica: `(1, C)`, `(1, C)`, and an integer,
            `(1, 1)` or `(1, C)`.

    Returns:
        `moments.Moments` over all replicas, its count `(1, 1)` or `(1, C)`. On the JAX
        backend, where arrays are global, and outside a strategy: `batch` itself.

    Raises:
        ValueError: XLA compiles the replica's whole step, and cannot hold a
            collective of `tf.distribute` (but on a TPU); or a loop or branch is traced.
    """
    if count() == 1:
        return batch
    import tensorflow as tf

    check_control_flow(
        "Batch statistics over several replicas", ", or the layer synchronized=False"
    )
    strategy = tf.distribute.get_strategy()
    if tracing.is_xla() and not isinstance(strategy, tf.distribute.TPUStrategy):
        raise ValueError(
            "A step of several replicas cannot be compiled as a whole: compile the "
            "model with jit_compile=False, or train it with keras_en.training.fit, "
            "which compiles what lies between the collectives. "
            f"Received: jit_compile=True, {count()} replicas"
        )
    mean, variance, total = (tf.cast(value, "float64") for value in batch)
    # One count, or with a mask that tells channels apart one for each.
    counts = total.shape[-1] if total.shape.rank else 1
    if getattr(_local, "standing_in", False):
        total = total * 0
    square, every = variance + mean * mean, tf.broadcast_to(total, (1, counts))
    (sums,) = all_reduce([tf.concat([total * mean, total * square, every], axis=1)])
    channels = batch.mean.shape[1]
    mean, square, total = tf.split(sums, [channels, channels, counts], axis=1)
    share = 1 / tf.maximum(total, 1)
    mean, square = mean * share, square * share
    # Rounding may leave less than nothing of a constant channel.
    variance = tf.maximum(square - mean * mean, 0)
    return moments.Moments(
        *(tf.cast(v, batch.mean.dtype) for v in (mean, variance, total))
    )


def all_reduce(tensors):
    """The sum of each over all replicas, with one collective: a list of tensors of one
    dtype.

    In a graph each replica's thread puts its part of the collective there and goes on:
    no other thread runs amid the call of a model, whose layers keep the losses, and
    whatever else, of one call at a time.
    """
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    tracing.number_groups_apart(context.strategy)
    collective = tracing.collective(context)
    if collective is None:
        # Threads of other replicas run here, and call the same layers.
        with keras_private.own_tensors():
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
    if any(isinstance(tensor, tf.IndexedSlices) for tensor in tensors):
        # Gradients of embeddings, of which no other gradient is asked.
        return collective(tensors)

    @tf.custom_gradient
    def summed(*values):
        # The gradient of a sum over replicas is the sum of theirs.
        return collective(list(values)), lambda *upstream: all_reduce(list(upstream))

    return summed(*tensors)


def check_control_flow(what, otherwise=""):
    """Raises where a loop, a branch or an inner function is traced, which `what`
    cannot leave; the error says what to do: unroll, or `otherwise`.

    Raises:
        ValueError: One is.
    """
    if tracing.is_control_flow():
        raise ValueError(
            f"{what} cannot be had inside a loop, a branch or a function within a "
            f"graph: give the RNN unroll=True{otherwise}. Received: a layer called "
            "inside one"
        )


@contextlib.contextmanager
def standing_in(wanted=True):
    """Inside, what this replica holds counts in no batch statistic: a stand-in for the
    samples that it has not, so that it reaches the same collectives as the others."""
    _local.standing_in = wanted
    try:
        yield
    finally:
        _local.standing_in = False
