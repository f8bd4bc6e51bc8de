"""Batch statistics across the replicas of a `tf.distribute` strategy."""

import keras
from keras import ops

from keras_en import moments


def count():
    """Replicas that hold parts of the global batch: 1 on JAX, where arrays are global,
    and outside a strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def merge(batch):
    """Count-weighted batch moments over all replicas, with one all-reduce.

    Every replica puts `(mean, variance, count)` into its own row of an
    `R x (2C + 1)` block of zeros; the block is summed over the replicas and its
    rows are merged as samples are. Nothing cancels, and an empty replica counts 0.

    Must be called in the replica body itself, never inside `cond` or a nested
    function: the collective has to be reached by every replica.

    Args:
        batch: `moments.Moments` of this replica: `(1, C)`, `(1, C)`, and an integer
            or `(1, 1)`.

    Returns:
        `moments.Moments` over all replicas, its count `(1, 1)`. On the JAX backend,
        where arrays are global, and outside a strategy: `batch` itself.
    """
    if count() == 1:
        return batch
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    positions = ops.broadcast_to(ops.cast(batch.count, batch.mean.dtype), (1, 1))
    row = ops.concatenate([batch.mean, batch.variance, positions], axis=1)
    place = tf.one_hot([context.replica_id_in_sync_group], replicas, axis=0)
    block = ops.cast(place, row.dtype) * row  # (R, 1) * (1, 2C+1)
    block = context.all_reduce(tf.distribute.ReduceOp.SUM, block)
    channels = batch.mean.shape[1]
    return moments.over_batch(*ops.split(block, [channels, 2 * channels], axis=1))
