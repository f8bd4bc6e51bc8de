"""The important ratios of every sample in every layer."""

import contextlib
from typing import Any

import keras
import numpy as np

from keras_en.arguments import check
from keras_en.keras_private import layers_of
from keras_en.layers import ExemplarNormalization
from keras_en.layers.recording import recording
from keras_en.text import unique


def exemplar_layers(model: keras.layers.Layer) -> dict[str, ExemplarNormalization]:
    """Every `ExemplarNormalization` of `model`, nested ones too, by its path.

    >>> layers = [keras.Input((8, 3)), ExemplarNormalization(name="norm")]
    >>> list(exemplar_layers(keras.Sequential(layers, name="model")))
    ['model/norm']

    Args:
        model: A built Keras model or layer of any kind.

    Returns:
        Dictionary from `layer.path` to layer, in the order of the model's layers. A
        path that several layers have is numbered: `path`, `path_1`, ...
    """
    by_path: dict[str, ExemplarNormalization] = {}
    for layer in layers_of(model):
        if isinstance(layer, ExemplarNormalization):
            by_path[unique(layer.path, by_path)] = layer
    return by_path


def collect_ratios(
    model: keras.Model, inputs: Any, batch_size: int = 128
) -> dict[str, np.ndarray]:
    """The ratios `lambda[n, k]` of every sample in every layer, in inference mode.

    >>> norm = ExemplarNormalization(normalizers=("layer", "batch"), name="norm")
    >>> model = keras.Sequential([keras.Input((8, 3)), norm], name="model")
    >>> ratios = collect_ratios(model, np.zeros((2, 8, 3)))
    >>> ratios["model/norm"].tolist()
    [[0.5, 0.5], [0.5, 0.5]]

    A layer that runs more than once in a call of the model, as one that is shared, in a
    `TimeDistributed` or in the cell of an RNN, has an entry a call, in the order in
    which they run: `path`, `path/1`, `path/2`, ... Of an RNN these are its steps.

    Args:
        model: A built Keras model of any kind.
        inputs: Array `(N, ...)`, the model's only input.
        batch_size: Samples a step.

    Returns:
        Dictionary from layer path to NumPy array `(N, K)`, in the order in which the
        model's layers are listed. Columns follow `layer.pool`. Where the model calls
        the layer with more rows than samples, there are as many rows.

    Raises:
        ValueError: No layer of `model` is an `ExemplarNormalization`; or one does not
            run, or only in a function or a loop that the backend traces; `inputs` is
            empty.
    """
    layers = exemplar_layers(model)
    check(layers, "model", "a model with an ExemplarNormalization layer", model)
    check(len(inputs), "inputs", "an array with a sample", inputs)
    batches: dict[str, list] = {}
    for start in range(0, len(inputs), batch_size):
        with recording(layers) as recorded, _unrolled(model):
            model(inputs[start : start + batch_size], training=False)
        for path, calls in recorded.items():
            if not calls:
                raise ValueError(
                    "Argument `model` must run every ExemplarNormalization. "
                    f"Received: {path}, which does not run"
                )
            for i, ratios in enumerate(calls):
                key = f"{path}/{i}" if i else path
                batches.setdefault(key, []).append(_array(path, ratios))
    return {key: np.concatenate(parts) for key, parts in batches.items()}


@contextlib.contextmanager
def _unrolled(model):
    """Steps of an RNN run one by one, and none of them to see its shape only."""
    rnns = [
        layer
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.RNN) and exemplar_layers(layer)
    ]
    before = [layer.unroll for layer in rnns]
    try:
        for layer in rnns:
            layer.unroll = True
        yield
    finally:
        for layer, unroll in zip(rnns, before, strict=True):
            layer.unroll = unroll


def _array(path, ratios):
    try:
        return keras.ops.convert_to_numpy(ratios)
    # What TensorFlow, in two ways, and JAX raise of a tensor that they trace.
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise ValueError(
            "Argument `model` must run its layers one by one, as an RNN does with "
            "unroll=True, in no function that the backend traces. Received: "
            f"{path}, without values"
        ) from error
