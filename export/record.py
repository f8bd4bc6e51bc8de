"""What an artefact says about itself."""

import importlib.metadata

import keras

from keras_en.keras_private import layers_of

from .serving import takes_ratios

# Where a SavedModel keeps it.
FILE = "assets.extra/keras_en.json"


def record(model, **more):
    """Facts about a model that is exported, ready for JSON.

    `norm` counts the layers of each class of normalization; `normalizers`, `r` and
    `pi` are those of Exemplar Normalization, each value once; `layers` has the class of
    every normalization by its name.
    """
    layers = {
        layer.name: type(layer).__name__
        for layer in layers_of(model)
        if type(layer).__name__.endswith("Normalization")
    }
    kinds = sorted(set(layers.values()))
    found = {
        "library": "keras_en",
        "version": importlib.metadata.version("keras-en"),
        "keras": keras.__version__,
        "model": model.name,
        "parameters": model.count_params(),
        "norm": {kind: list(layers.values()).count(kind) for kind in kinds},
        "layers": layers,
    }
    mixing = [layer for layer in layers_of(model) if takes_ratios(layer)]
    if mixing:
        found["normalizers"] = _values(list(layer.pool) for layer in mixing)
        found["r"] = _values(_reduction(layer) for layer in mixing)
        found["pi"] = _values(layer.expansion for layer in mixing)
    return {**found, **more}


def _reduction(layer):
    # Resolved: "auto" depends on the layer's channels.
    if layer.ratio_conv is None:
        return None
    return layer.resolved_reduction


def _values(values):
    found = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
