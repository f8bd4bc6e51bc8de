"""The important ratios of every sample in every layer."""

import keras
import numpy as np

from keras_en.keras_private import layers_of
from keras_en.layers import ExemplarNormalization
from keras_en.layers.recording import recording
from keras_en.text import unique


def exemplar_layers(model):
    """Every `ExemplarNormalization` of `model`, nested ones too, by its path.

    Args:
        model: A built Keras model or layer of any kind.

    Returns:
        Dictionary from `layer.path` to layer, in the order of the model's layers. A
        path that several layers have is numbered: `path`, `path_1`, ...
    """
    found = {}
    for layer in layers_of(model):
        if isinstance(layer, ExemplarNormalization):
            found[unique(layer.path, found)] = layer
    return found


def collect_ratios(model, inputs, batch_size=128):
    """The ratios `lambda[n, k]` of every sample in every layer, in inference mode.

    Args:
        model: A built Keras model of any kind.
        inputs: Array `(N, ...)`, the model's only input.
        batch_size: Samples a step.

    Returns:
        Dictionary from layer path to NumPy array `(N, K)`, in the order in which the
        model's layers are listed. Columns follow `layer.pool`.

    Raises:
        ValueError: No layer of `model` is an `ExemplarNormalization`, or one runs
            more than once in a call of the model, or not at all; `inputs` is empty.
    """
    found = exemplar_layers(model)
    if not found:
        raise ValueError(
            "Argument `model` must hold an ExemplarNormalization layer. "
            f"Received: model={model!r}"
        )
    if not len(inputs):
        raise ValueError(
            f"Argument `inputs` must hold a sample. Received: inputs={inputs!r}"
        )
    batches = {path: [] for path in found}
    for start in range(0, len(inputs), batch_size):
        with recording(found) as recorded:
            model(inputs[start : start + batch_size], training=False)
        for path, calls in recorded.items():
            if len(calls) != 1:
                raise ValueError(
                    "Argument `model` must run every ExemplarNormalization once. "
                    f"Received: {path} runs {len(calls)} times"
                )
            batches[path].append(keras.ops.convert_to_numpy(calls[0]))
    return {path: np.concatenate(parts) for path, parts in batches.items()}
