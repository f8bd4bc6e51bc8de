"""The important ratios of every sample in every layer."""

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
    layers = exemplar_layers(model)
    check(layers, "model", "a model with an ExemplarNormalization layer", model)
    check(len(inputs), "inputs", "an array with a sample", inputs)
    batches: dict[str, list] = {path: [] for path in layers}
    for start in range(0, len(inputs), batch_size):
        with recording(layers) as recorded:
            model(inputs[start : start + batch_size], training=False)
        for path, calls in recorded.items():
            if len(calls) != 1:
                raise ValueError(
                    "Argument `model` must run every ExemplarNormalization once. "
                    f"Received: {path} runs {len(calls)} times"
                )
            batches[path].append(keras.ops.convert_to_numpy(calls[0]))
    return {path: np.concatenate(parts) for path, parts in batches.items()}
