"""Global batches, the same on every worker, and each replica's part of them."""

from typing import NamedTuple

import keras
import numpy as np


class Source(NamedTuple):
    """Where batches come from.

    - `batches`: function from the number of an epoch to an iterable of global batches
      `(x, y, sample_weight)`, the last two of which may be `None`.
    - `steps`: batches an epoch, or `None` where only the iterable knows.
    """

    batches: object
    steps: int | None


def source(x, y, sample_weight, batch_size, shuffle, seed):
    """What `fit` and `evaluate` are given, as a `Source`; see there.

    Raises:
        TypeError, ValueError: `x` is nothing that yields batches, is endless or empty,
            or comes with a `y` that it must hold itself; arrays of different lengths.
    """
    if _is_array(x) or _are_arrays(x):
        return _from_arrays((x, y, sample_weight), batch_size, shuffle, seed)
    if y is not None or sample_weight is not None:
        raise ValueError(
            "Arguments `y` and `sample_weight` must be None where `x` yields batches, "
            "which hold them. "
            f"Received: y={type(y)}, sample_weight={type(sample_weight)}"
        )
    if isinstance(x, keras.utils.PyDataset):
        raise TypeError(
            "Argument `x` must be arrays, an iterable of batches or a function; a "
            "PyDataset becomes one by lambda epoch: (data[i] for i in range(len(data)))"
            f". Received: x={x!r}"
        )
    steps = None
    if hasattr(x, "cardinality"):
        cardinality = int(x.cardinality())
        if cardinality == -1:
            raise ValueError(
                "Argument `x` must end: an epoch is one pass over it. "
                "Received: an endless dataset (`repeat`)"
            )
        steps = cardinality if cardinality > 0 else None
    if callable(x):
        batches = x
    elif hasattr(x, "__iter__"):
        # An iterator would be empty from the second epoch on.
        if iter(x) is x:
            raise TypeError(
                "Argument `x` must be iterable once an epoch; give a function of the "
                f"epoch that makes an iterator. Received: x={x!r}"
            )

        def batches(epoch):
            return x
    else:
        raise TypeError(
            "Argument `x` must be arrays, an iterable of batches (x, y) or (x, y, "
            "sample_weight), such as a tf.data.Dataset, or a function from the epoch "
            f"to one. Received: x={x!r}"
        )

    def standard(epoch):
        for batch in batches(epoch):
            yield keras.utils.unpack_x_y_sample_weight(batch)

    return Source(standard, steps)


def parts(data):
    """`(x, y, sample_weight)` of `validation_data`; see `fit`."""
    arrays = isinstance(data, tuple) or _are_arrays(data)
    return keras.utils.unpack_x_y_sample_weight(tuple(data) if arrays else (data,))


def _is_array(value):
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _are_arrays(values):
    """Several inputs; not a list of batches, which are tuples themselves."""
    if isinstance(values, dict):
        values = list(values.values())
    return (
        isinstance(values, list | tuple)
        and bool(values)
        and all(map(_is_array, values))
    )


def _from_arrays(arrays, batch_size, shuffle, seed):
    leaves = [leaf for leaf in keras.tree.flatten(arrays) if leaf is not None]
    sizes = [len(leaf) for leaf in leaves]
    if len(set(sizes)) > 1 or not sizes[0]:
        raise ValueError(
            "Arguments `x`, `y` and `sample_weight` must hold as many samples, at "
            f"least one. Received: {sizes}"
        )
    count = sizes[0]

    def batches(epoch):
        order = np.arange(count)
        if shuffle:
            # The epoch is part of the seed: a run resumed in it sees the same order.
            order = np.random.default_rng([seed, epoch]).permutation(count)
        for start in range(0, count, batch_size):
            chosen = order[start : start + batch_size]
            yield keras.tree.map_structure(
                lambda a, chosen=chosen: None if a is None else np.asarray(a)[chosen],
                arrays,
            )

    return Source(batches, -(-count // batch_size))


def length(batch):
    """The number of samples of a batch. Raises `ValueError` if its tensors differ in
    it, or have none."""
    leaves = [leaf for leaf in keras.tree.flatten(batch) if leaf is not None]
    sizes = {int(leaf.shape[0]) for leaf in leaves}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "A batch must hold tensors of one length, its samples, at least one. "
            f"Received: lengths {sorted(sizes)}"
        )
    return sizes.pop()


def split(strategy, batch):
    """Each replica's part of a global batch, in its order.

    With `n` samples and `R` replicas, each of the first `n mod R` gets one more than
    the others. Where `n < R` the last ones have no share, but get the first sample to
    stand in: a convolution of TensorFlow's oneDNN fails on an empty batch.

    Args:
        strategy: `tf.distribute.Strategy`.
        batch: `(x, y, sample_weight)`, the same on every worker.

    Returns:
        `n`, the parts, and the share of the global batch that each is, a float64
        scalar; parts and shares as `strategy.run` takes them.

    Raises:
        ValueError: See `length`.
    """
    import tensorflow as tf

    n = length(batch)
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        parts = keras.tree.map_structure(
            lambda a: None if a is None else tf.convert_to_tensor(a), batch
        )
        return n, parts, tf.constant(1.0, "float64")
    counts = [n // replicas + (r < n % replicas) for r in range(replicas)]
    edges = np.cumsum([0, *counts])

    def of_replicas(value):
        return strategy.experimental_distribute_values_from_function(
            lambda context: value(context.replica_id_in_sync_group)
        )

    def part(a):
        if a is None:
            return None
        return of_replicas(
            lambda r: tf.convert_to_tensor(
                a[int(edges[r]) : int(edges[r + 1])] if counts[r] else a[:1]
            )
        )

    shares = of_replicas(lambda r: tf.constant(counts[r] / n, "float64"))
    return n, keras.tree.map_structure(part, batch), shares


def is_absent(strategy, n):
    """Whether the replica that is being traced has none of `n` samples, but a stand-in;
    see `split`."""
    if n >= strategy.num_replicas_in_sync:
        return False
    import tensorflow as tf

    place = tf.distribute.get_replica_context().replica_id_in_sync_group
    return int(tf.get_static_value(place)) >= n
