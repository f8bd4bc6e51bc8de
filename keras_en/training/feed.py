"""Global batches, the same on every worker, and each replica's part of them."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.arguments import are_arrays, check, is_array, require


class Source(NamedTuple):
    """Where batches come from.

    - `batches`: function from the number of an epoch to an iterable of global batches
      `(x, y, sample_weight)`, the last two of which may be `None`.
    - `steps`: batches an epoch, or `None` where only the iterable knows.
    """

    batches: Callable[[int], Iterable]
    steps: int | None


def source(x, y, sample_weight, batch_size, shuffle=False, seed=0):
    """What `fit` and `evaluate` are given, as a `Source`; see there.

    Raises:
        TypeError, ValueError: `x` is nothing that yields batches, is endless or empty,
            or comes with a `y` that it must hold itself; arrays of different lengths;
            sparse or ragged tensors.
    """
    if is_array(x) or are_arrays(x):
        _check_dense((x, y, sample_weight))
        return _from_arrays((x, y, sample_weight), batch_size, shuffle, seed)
    absent = y is None and sample_weight is None
    what = "be None where `x` yields batches, which hold them"
    received = f"y={type(y)}, sample_weight={type(sample_weight)}"
    require(absent, "Arguments `y` and `sample_weight`", what, received)
    # -1 of an endless one, -2 of one that does not know.
    cardinality = int(x.cardinality()) if hasattr(x, "cardinality") else -2
    endless = cardinality == -1
    check(not endless, "x", "data that ends: an epoch is one pass over it", x)
    iterables = _iterables(x)

    def unpack(batch):
        _check_dense(batch)
        return keras.utils.unpack_x_y_sample_weight(batch)

    steps = cardinality if cardinality > 0 else None
    return Source(lambda epoch: map(unpack, iterables(epoch)), steps)


def unpacked(data) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` of `validation_data`; see `fit`."""
    arrays = isinstance(data, tuple) or are_arrays(data)
    return keras.utils.unpack_x_y_sample_weight(tuple(data) if arrays else (data,))


def leaves(structure):
    """The tensors of a structure, in which some may be `None`."""
    return [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]


def _check_dense(structure):
    """Raises `TypeError` for tensors of TensorFlow, SciPy or JAX that are not dense: a
    step that is traced for every number of entries would be no use."""
    for leaf in leaves(structure):
        names = ("dense_shape", "toarray", "todense", "nested_row_splits")
        if any(hasattr(leaf, name) for name in names):
            raise TypeError(
                "Argument `x` must hold dense tensors: make them so, batch by batch, "
                "by `tf.sparse.to_dense`, or `to_tensor()` where they are ragged; or "
                f"use `model.fit`. Received: {type(leaf).__name__}"
            )


def _iterables(x):
    """A function from the number of an epoch to an iterable of its batches."""
    allowed = None
    if isinstance(x, keras.utils.PyDataset):
        allowed = (
            "arrays, an iterable of batches or a function; a PyDataset becomes one by "
            "lambda epoch: (data[i] for i in range(len(data)))"
        )
    elif callable(x):
        return x
    elif not hasattr(x, "__iter__"):
        allowed = (
            "arrays, an iterable of batches (x, y) or (x, y, sample_weight), such as a "
            "tf.data.Dataset, or a function from the epoch to one"
        )
    elif iter(x) is x:
        # It would be empty from the second epoch on.
        allowed = (
            "iterable once an epoch; give a function of the epoch that makes an "
            "iterator"
        )
    if allowed:
        raise TypeError(f"Argument `x` must be {allowed}. Received: x={x!r}")
    return lambda epoch: x


def _from_arrays(arrays, batch_size, shuffle, seed):
    sizes = [len(leaf) for leaf in leaves(arrays)]
    subject, fits = "Arguments `x`, `y` and `sample_weight`", len(set(sizes)) == 1
    require(fits and sizes[0], subject, "hold as many samples, at least one", sizes)
    count = sizes[0]

    def batches(epoch):
        order = np.arange(count)
        if shuffle:
            # The epoch is part of the seed: a run resumed in it sees the same order.
            order = np.random.default_rng([seed, epoch]).permutation(count)
        for start in range(0, count, batch_size):
            chosen = order[start : start + batch_size]
            yield _of_each(lambda a, chosen=chosen: np.asarray(a)[chosen], arrays)

    return Source(batches, -(-count // batch_size))


def _of_each(function, structure):
    """`function` of each tensor of a structure; `None` stays."""
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else function(leaf), structure
    )


def length(batch):
    """The number of samples of a batch. Raises `ValueError` if its tensors differ in
    it, or have none."""
    sizes = {int(leaf.shape[0]) for leaf in leaves(batch)}
    what = "hold tensors of one length, its samples, at least one"
    require(len(sizes) == 1 and all(sizes), "A batch", what, f"lengths {sorted(sizes)}")
    return sizes.pop()


def part(batch, chosen):
    """The samples of a batch that a slice chooses, tensors."""
    import tensorflow as tf

    return _of_each(lambda tensor: tf.convert_to_tensor(tensor[chosen]), batch)


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
        return n, _of_each(tf.convert_to_tensor, batch), tf.constant(1.0, "float64")
    counts = [n // replicas + (r < n % replicas) for r in range(replicas)]
    ends = list(itertools.accumulate(counts))

    def distributed(value):
        return strategy.experimental_distribute_values_from_function(
            lambda context: value(context.replica_id_in_sync_group)
        )

    def part(tensor, r):
        chosen = slice(ends[r] - counts[r], ends[r]) if counts[r] else slice(1)
        return tf.convert_to_tensor(tensor[chosen])

    parts = _of_each(lambda tensor: distributed(lambda r: part(tensor, r)), batch)
    shares = distributed(lambda r: tf.constant(counts[r] / n, "float64"))
    return n, parts, shares


def is_absent(strategy, samples):
    """Whether the replica that is being traced has none of the samples, but a stand-in;
    see `split`."""
    if samples >= strategy.num_replicas_in_sync:
        return False
    import tensorflow as tf

    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return int(tf.get_static_value(replica)) >= samples
