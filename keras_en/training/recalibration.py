"""Moving statistics computed anew, exactly, over data."""

import contextlib
import functools
import itertools
import threading

import keras
import numpy as np
from keras import ops

from keras_en.arguments import check, integer
from keras_en.keras_private import layers_of
from keras_en.layers.normalizer_pool import NormalizerPool
from keras_en.ops import moments, replicas
from keras_en.training import feed


def recalibrate(model, x, *, batch_size=32, steps=None):
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
    graph calls with `training=False` do not, unless they are frozen, too.

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
            statistics, or one with `renorm=True`; `x` yields fewer batches than
            `steps`, or none, or what is not finite, or not as many tensors as the
            model has inputs; see also `training.fit`. Then, as on any other error, the
            statistics are as they were.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "Argument `model` must be a keras.Model that is built. "
            f"Received: model={model!r}"
        )
    layers = _layers(model)
    check(
        layers,
        "model",
        "a network with trainable layers that keep moving statistics",
        model.name,
        "name",
    )
    if steps is not None:
        steps = integer("steps", steps, minimum=1)
    batch_size = integer("batch_size", batch_size, minimum=1)
    stream = hasattr(x, "__iter__") and not hasattr(x, "shape")
    if steps is not None and stream and not isinstance(x, list | tuple | dict):
        given = x

        def x(epoch):
            return itertools.islice(given, steps)

    data = feed.source(x, None, None, batch_size, False, 0)
    wanted = len(getattr(model, "inputs", None) or [])
    variables = [(layer.moving_mean, layer.moving_variance) for layer in layers]
    # Layers that are not reached keep them.
    values = [[ops.convert_to_numpy(v) for v in pair] for pair in variables]
    totals = [None] * len(layers)
    done = 0
    try:
        with _watched(layers) as found:
            step = _step(model, found, len(layers))
            for batch, _, _ in data.batches(0):
                if done == steps:
                    break
                held = len(keras.tree.flatten(batch))
                check(
                    wanted in (0, held),
                    "x",
                    f"batches of as many tensors as the model has inputs, {wanted}",
                    held,
                    "tensors",
                )
                totals = [
                    _merged(total, new)
                    for total, new in zip(totals, step(batch), strict=True)
                ]
                done += 1
        check(
            done and (steps is None or done == steps),
            "x",
            f"at least {steps or 1} batches",
            done,
            "batches",
        )
        exact = list(values)
        for i, total in enumerate(totals):
            if total is not None and np.max(total[2]) > 0:
                check(
                    all(np.isfinite(v).all() for v in total),
                    "x",
                    "finite, and so what the network makes of it",
                    f"statistics of {layers[i].path} that are not",
                )
                exact[i] = [np.reshape(v, (-1,)) for v in total[:2]]
        values = exact
    finally:
        # Whatever happened: the layers have moved them.
        for pair, new in zip(variables, values, strict=True):
            for variable, value in zip(pair, new, strict=True):
                variable.assign(value)


def _layers(model):
    known = (keras.layers.BatchNormalization, NormalizerPool)
    found = [
        layer
        for layer in layers_of(model)
        if isinstance(layer, known)
        and layer.trainable
        and getattr(layer, "moving_mean", None) is not None
    ]
    for layer in found:
        check(
            not getattr(layer, "renorm", False),
            "model",
            "a network without batch renormalization",
            f"renorm=True in {layer.path}",
        )
    return found


@contextlib.contextmanager
def _watched(layers):
    """Inside, the layers behave as in training, and what each call of theirs was given
    goes to the list `calls` of what is yielded, as (place, moments)."""
    # Of a thread: MirroredStrategy traces every replica in one of its own.
    found = threading.local()

    def call(i, layer, original, inputs, training=None, mask=None, **kwargs):
        wide = keras.backend.standardize_dtype(inputs.dtype) == "float64"
        values = ops.cast(inputs, "float64" if wide else "float32")
        axis = layer.axis % len(inputs.shape)
        sample = moments.per_sample(values, axis, mask)
        found.calls.append((i, replicas.merge(moments.over_batch(*sample))))
        return original(inputs, training=True, mask=mask, **kwargs)

    for i, layer in enumerate(layers):
        layer.call = functools.partial(call, i, layer, layer.call)
    try:
        yield found
    finally:
        for layer in layers:
            del layer.call


def _step(model, found, count):
    """A function of a global batch to the moments of each layer, NumPy, or `None` for
    layers that were not called."""
    backend = keras.backend.backend()
    places = {}

    mode = {"training": False} if model._call_has_training_arg else {}

    def traced(run):
        found.calls = []
        run()
        places["of"] = [i for i, _ in found.calls]
        return [list(m) for _, m in found.calls]

    def by_layer(rows):
        totals = [None] * count
        for i, row in zip(places["of"], rows, strict=True):
            row = [np.asarray(ops.convert_to_numpy(v), "float64") for v in row]
            totals[i] = _merged(totals[i], row)
        return totals

    if backend == "tensorflow":
        import tensorflow as tf

        strategy = model.distribute_strategy

        # `n`: see `steps.Run`.
        @functools.partial(tf.function, autograph=False)
        def on_replicas(n, batch):
            def replica(batch):
                with replicas.standing_in(feed.is_absent(strategy, n)):
                    return traced(lambda: model(batch, **mode))

            return strategy.run(replica, (batch,))

        def step(batch):
            n, (parts, _, _), _ = feed.split(strategy, (batch, None, None))
            rows = keras.tree.map_structure(
                lambda v: strategy.experimental_local_results(v)[0],
                on_replicas(n, parts),
            )
            return by_layer(rows)

    elif backend == "jax":
        import jax

        @jax.jit
        def compiled(trainable, others, batch):
            return traced(
                lambda: model.stateless_call(trainable, others, batch, **mode)
            )

        def step(batch):
            trainable = [v.value for v in model.trainable_variables]
            others = [v.value for v in model.non_trainable_variables]
            return by_layer(compiled(trainable, others, batch))

    else:

        def step(batch):
            return by_layer(traced(lambda: model(batch, **mode)))

    return step


def _merged(total, new):
    """Moments of both, in float64; either may be `None`."""
    if total is None or new is None:
        return new if total is None else total
    rows = [
        ops.convert_to_tensor(
            np.concatenate([np.reshape(v, (1, -1)) for v in pair]), "float64"
        )
        for pair in zip(total, new, strict=True)
    ]
    return [ops.convert_to_numpy(v) for v in moments.over_batch(*rows)]
