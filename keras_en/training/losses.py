"""Losses whose mean over replicas is that of one device."""

import inspect

import keras
import numpy as np

from keras_en.training import feed, keras_private

# Those of Keras's that are of a whole batch, unless they have an `axis`.
_OF_A_BATCH = ("dice", "tversky", "circle")
# Of float32, relative: the same few numbers, added up in another order.
_ROUNDING = 1e-5


def of(model):
    """The losses that a model was compiled with, in a row."""
    return [loss for loss in keras.tree.flatten(model.loss) if loss is not None]


def check_labels(model, y, position):
    """Raises where a label is none of the classes of a sparse cross-entropy: on a GPU
    its loss would be NaN, on a CPU TensorFlow's error says neither step nor argument.

    Raises:
        ValueError: One is not.
    """
    outputs = getattr(model, "outputs", None) or []
    losses, labels = (_in_order(model, each) for each in (model.loss, y))
    if not len(losses) == len(labels) == len(outputs):
        return
    for loss, of_output, output in zip(losses, labels, outputs, strict=True):
        # TensorFlow has classes along the last axis only.
        is_sparse, ignored = (False, None) if loss is None else _sparse(loss)
        classes = output.shape[-1]
        if not is_sparse or classes is None:
            continue
        values = np.asarray(of_output)
        wrong = (values < 0) | (values >= classes)
        if ignored is not None:
            wrong &= values != ignored
        if wrong.any():
            raise ValueError(
                f"Argument `y` must hold labels from 0 to {classes - 1}, one of the "
                f"{classes} classes of the output. "
                f"Received: {values[wrong].flat[0]} ({position})"
            )


def _in_order(model, structure):
    """What there is for each output, in their order; nothing where it is not clear."""
    if isinstance(structure, dict):
        names = getattr(model, "output_names", [])
        same = sorted(names) == sorted(structure)
        return [structure[name] for name in names] if same else []
    return feed.leaves(structure)


def _sparse(loss):
    """Whether a loss is a sparse cross-entropy, and the label that it ignores."""
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return True, loss.ignore_class
    return loss is keras.losses.sparse_categorical_crossentropy, None


def check_mean_over_samples(model, batch):
    """Raises unless `loss(batch) = sum_p (n_p / n) loss(part_p)`.

    So it is for a mean over samples, and so `fit` adds up the losses of replicas. Tried
    on some samples of a batch, in two parts, unless all losses are means of Keras's:
    far apart, since the labels of neighbours may be the same, and without their masks,
    whose sizes are weights. One that draws random numbers cannot be compared, and is
    taken for a mean.

    Raises:
        ValueError: It is not so.
    """
    length = feed.length(batch)
    samples = min(length, 5)
    _check_none_ignored(model)
    if samples < 2 or not _is_own(model):
        return
    step = (length - 1) // (samples - 1)
    x, y, weight = feed.part(batch, slice(0, samples * step, step))
    outputs = model(x, **keras_private.mode(model, False))
    outputs = keras.tree.map_structure(_plain, outputs)

    def loss(start, end):
        parts = feed.part((x, y, outputs, weight), slice(start, end))
        value = keras_private.loss(model, *parts, training=False)
        return float(keras.ops.convert_to_numpy(value))

    whole = loss(0, samples)
    if whole != loss(0, samples):
        return
    for cut in range(1, samples):
        parts = [loss(0, cut), loss(cut, samples)]
        mean = np.average(parts, weights=[cut, samples - cut])
        if abs(whole - mean) > _ROUNDING * max(map(abs, parts)):
            raise ValueError(
                "Argument `model` must be compiled with losses that are a mean over "
                "samples for several replicas, each of which has a part of them: let "
                "the loss return one for each sample, as keras.losses.Dice does with "
                "all axes but the first in `axis`. Received: a loss of "
                f"{whole:.6g} for {samples} samples, {mean:.6g} for their parts"
            )


def _check_none_ignored(model):
    """Keras's mean over the labels that are left is none over samples, though few
    samples may hide it."""
    for loss in map(keras.losses.get, of(model)):
        if _is_mean_of_keras(loss) and _sparse(loss)[1] is not None:
            raise ValueError(
                "Argument `model` must be compiled with losses that are a mean over "
                "samples for several replicas, as keras_en.training.crossentropy."
                "Crossentropy(ignore_class=...), of all samples alike, is. Received: "
                f"{type(loss).__name__}(ignore_class={loss.ignore_class})"
            )


def _is_own(model):
    """Whether a loss may be another thing than a mean of Keras's over samples."""
    # Of outputs without an axis beside that of samples it is one of the whole batch.
    if any(len(getattr(o, "shape", ())) < 2 for o in model.outputs or [None]):
        return True
    if type(model).compute_loss is not keras.Model.compute_loss:
        return True
    return not all(map(_is_mean_of_keras, of(model)))


def _is_mean_of_keras(loss):
    loss = keras.losses.get(loss)
    kind = loss if inspect.isfunction(loss) else type(loss)
    of_keras = getattr(keras.losses, kind.__name__, None) is kind
    return of_keras and kind.__name__.lower() not in _OF_A_BATCH


def _plain(tensor):
    """Without a mask, and at least float32: sums of 16 bits would differ too much."""
    short = keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")
    tensor = keras.ops.cast(tensor, "float32") if short else tensor
    return keras.ops.convert_to_tensor(keras.ops.convert_to_numpy(tensor))
