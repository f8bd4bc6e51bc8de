"""Moving statistics computed anew, exactly, over data."""

import contextlib
import functools
import itertools
import threading
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_en.arguments import check, integer
from keras_en.keras_private import layers_of
from keras_en.layers import BatchKalmanNormalization
from keras_en.layers.normalizer_pool import NormalizerPool
from keras_en.layers.recording import replaced_calls
from keras_en.ops import moments, replicas
from keras_en.training import feed, keras_private


def recalibrate(
    model: keras.Model, x: Any, *, batch_size: int = 32, steps: int | None = None
) -> None:
    """Replaces moving statistics by those of the whole data, as if of one batch.

    `c = sum_b c_b`, `mu = sum_b c_b mu_b / c`,
    `var = sum_b c_b (var_b + (mu_b - mu)^2) / c` over batches `b`, with the counts
    `c_b` of positions that no mask takes away: no average that forgets, and no
    `momentum` (Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", Sec. 3.2:
    precise batch normalization).

    All layers of `keras.layers.BatchNormalization` and of this library that are
    trainable are treated at once: each normalizes with the statistics of its batch, as
    in training, while everything else behaves as in evaluation (no dropout). Use
    batches as large as those of training. Frozen layers stay as they are; those that a
    graph calls with `training=False` do not, unless they are frozen, too. So do those
    that the model's call does not run; a warning names them.

    Runs under the strategy that the model was built in, as `training.fit` does; on JAX
    and torch on one device.

    Args:
        model: Built `keras.Model`; need not be compiled.
        x: As in `training.fit`: arrays, or an iterable of batches, of which targets and
            weights are ignored. With `steps` it may be endless, or an iterator.
        batch_size: Samples of a batch, if `x` is arrays.
        steps: Number of batches; `None`: all.

    Raises:
        ValueError, TypeError: `model` holds no layer that is trainable and has moving
            statistics, or one with `renorm=True`, or a `BatchKalmanNormalization`,
            which normalizes with the statistics of no batch alone; `x` yields fewer
            batches than `steps`, or none, or what is not finite, or not as many tensors
            as the model has inputs; see also `training.fit`. Then, as on any other
            error, the statistics are as they were.

    Example: data of which every value is 5 has that mean and no variance.

    >>> import keras
    >>> import numpy as np
    >>> from keras_en import training
    >>> norm = keras.layers.BatchNormalization()
    >>> model = keras.Sequential([keras.Input((4, 4, 2)), norm])
    >>> training.recalibrate(model, np.full((3, 4, 4, 2), 5.0), batch_size=2)
    >>> keras.ops.convert_to_numpy(norm.moving_mean).tolist()
    [5.0, 5.0]
    >>> keras.ops.convert_to_numpy(norm.moving_variance).tolist()
    [0.0, 0.0]
    """
    layers = check_layers(model)
    batch_size = integer("batch_size", batch_size, minimum=1)
    if steps is not None:
        steps = integer("steps", steps, minimum=1)
    variables = [(layer.moving_mean, layer.moving_variance) for layer in layers]
    before = [[ops.convert_to_numpy(v) for v in pair] for pair in variables]
    after = before
    try:
        totals = _totals(model, layers, _batches(x, batch_size, steps), steps)
        after = list(map(_statistics, layers, totals, before))
        idle = [x.path for x, each in zip(layers, totals, strict=True) if each is None]
        if idle:
            warnings.warn(
                "keras_en.training.recalibrate: the call of the model does not run "
                f"{', '.join(idle)}, whose statistics stay as they were",
                stacklevel=2,
            )
    finally:
        # Whatever happened: the layers have moved them.
        for pair, values in zip(variables, after, strict=True):
            for variable, value in zip(pair, values, strict=True):
                variable.assign(value)


def layers_with_statistics(model: keras.Model) -> list[keras.Layer]:
    """The layers that keep moving statistics and normalize with others in training."""
    return [
        layer
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization | NormalizerPool)
        and layer.trainable
        and getattr(layer, "moving_mean", None) is not None
    ]


def check_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers whose statistics `recalibrate` replaces; raises where it cannot, as it
    does."""
    built = isinstance(model, keras.Model) and model.built
    check(built, "model", "a keras.Model that is built", model)
    layers = layers_with_statistics(model)
    allowed = "a network with trainable layers that keep moving statistics"
    check(layers, "model", allowed, model.name, "name")
    allowed = "a network without batch renormalization"
    for layer in layers:
        renormalizes = getattr(layer, "renorm", False)
        check(not renormalizes, "model", allowed, f"renorm=True in {layer.path}")
        # In evaluation nothing is predicted.
        kalman = isinstance(layer, BatchKalmanNormalization)
        check(not kalman, "model", "a network without predictions", layer.path, "path")
    return layers


def _batches(x, batch_size, steps):
    """The inputs of the model, batch by batch, at most `steps` of them."""
    stream = hasattr(x, "__iter__") and not hasattr(x, "shape")
    stream = stream and not isinstance(x, list | tuple | dict)
    # Read once and to an end, a stream may be endless, or an iterator.
    source = x if steps is None or not stream else lambda epoch: x
    data = feed.source(source, None, None, batch_size)
    return itertools.islice((batch for batch, _, _ in data.batches(0)), steps)


def _totals(model, layers, batches, steps):
    """The moments, in float64, of all that each layer reads; `None` for layers
    that were not called."""
    inputs = len(getattr(model, "inputs", None) or [])
    allowed = f"batches of as many tensors as the model has inputs, {inputs}"
    totals, seen = [None] * len(layers), 0
    with _watched(layers) as observe:
        step = _STEPS[keras.backend.backend()](model, observe)
        for batch in batches:
            tensors = len(keras.tree.flatten(batch))
            check(inputs in (0, tensors), "x", allowed, tensors, "tensors")
            for i, calls in enumerate(step(batch)):
                new = functools.reduce(_merged, map(_float64, calls), None)
                totals[i] = _merged(totals[i], new)
            seen += 1
    needed = steps or 1
    check(seen >= needed, "x", f"at least {needed} batches", seen, "batches")
    return totals


def _statistics(layer, total, before):
    """Mean and variance of a layer; those from before if it was not called."""
    if total is None or not np.max(total.count) > 0:
        return before
    finite = all(np.isfinite(value).all() for value in total)
    allowed = "finite, and so what the network makes of it"
    check(finite, "x", allowed, f"statistics of {layer.path} that are not")
    # A mask may hide a channel in every batch.
    seen = np.reshape(total.count, (-1,)) > 0
    return [
        np.where(seen, np.reshape(value, (-1,)), old)
        for value, old in zip(total[:2], before, strict=True)
    ]


@contextlib.contextmanager
def _watched(layers):
    """Inside, the layers behave as in training.

    Yields:
        Function that runs another and returns a list for each layer, of the moments
        that each call of it reads.
    """
    # Of a thread: MirroredStrategy traces every replica in one of its own.
    local = threading.local()

    def call(i, layer, original, inputs, training=None, mask=None, **kwargs):
        replicas.check_control_flow("Statistics for recalibration")
        wide = keras.backend.standardize_dtype(inputs.dtype) == "float64"
        values = ops.cast(inputs, "float64" if wide else "float32")
        sample = moments.per_sample(values, layer.axis % len(inputs.shape), mask)
        local.calls[i].append(replicas.merge(moments.over_batch(*sample)))
        if mask is not None:
            kwargs["mask"] = mask
        return original(inputs, training=True, **kwargs)

    def observe(run):
        local.calls = [[] for _ in layers]
        run()
        return local.calls

    with replaced_calls(
        (layer, functools.partial(call, i, layer, layer.call))
        for i, layer in enumerate(layers)
    ):
        yield observe


def _tensorflow_step(model, observe):
    """A function of a global batch to what `observe` sees, over all replicas."""
    import tensorflow as tf

    strategy, mode = model.distribute_strategy, keras_private.mode(model, False)

    # The number of samples is one of Python's: see `steps.Run`.
    @functools.partial(tf.function, autograph=False)
    def on_replicas(samples, batch):
        def replica(batch):
            with replicas.standing_in(feed.is_absent(strategy, samples)):
                return observe(lambda: model(batch, **mode))

        return strategy.run(replica, (batch,))

    def step(batch):
        samples, (parts, _, _), _ = feed.split(strategy, (batch, None, None))
        # Merged over the replicas, it is the same for all.
        return keras.tree.map_structure(
            lambda value: strategy.experimental_local_results(value)[0],
            on_replicas(samples, parts),
        )

    return step


def _jax_step(model, observe):
    """As `_tensorflow_step`, on one device."""
    import jax

    mode = keras_private.mode(model, False)

    @jax.jit
    def compiled(*arguments):
        return observe(lambda: model.stateless_call(*arguments, **mode))

    def step(batch):
        trainable = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]
        return compiled(trainable, others, batch)

    return step


def _torch_step(model, observe):
    """As `_tensorflow_step`, on one device."""
    mode = keras_private.mode(model, False)
    return lambda batch: observe(lambda: model(batch, **mode))


_STEPS = {"tensorflow": _tensorflow_step, "jax": _jax_step, "torch": _torch_step}


def _float64(values):
    """Moments as NumPy's."""
    arrays = (np.asarray(ops.convert_to_numpy(value), "float64") for value in values)
    return moments.Moments(*arrays)


def _merged(total, new):
    """Moments of both; either may be `None`."""
    if total is None or new is None:
        return new if total is None else total
    rows = [
        ops.convert_to_tensor(
            np.concatenate([np.reshape(value, (1, -1)) for value in pair]), "float64"
        )
        for pair in zip(total, new, strict=True)
    ]
    return _float64(moments.over_batch(*rows))
