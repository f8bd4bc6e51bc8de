"""What an artefact says about itself."""

import collections
import importlib.metadata
import json
from pathlib import Path

import keras

from keras_en.keras_private import layers_of
from keras_en.layers.recording import takes_ratios

# Where a SavedModel keeps it.
FILE = "assets.extra/keras_en.json"


def facts_of(model: keras.Model) -> dict:
    """Facts about a model that is exported, ready for JSON.

    `norm` counts the layers of each class of normalization; `normalizers`, `r` and
    `pi` are those of Exemplar Normalization, each value once; `layers` has the class of
    every normalization by its name.
    """
    norms = {
        layer.name: type(layer).__name__
        for layer in layers_of(model)
        if type(layer).__name__.endswith("Normalization")
    }
    facts = {
        "library": "keras_en",
        "version": importlib.metadata.version("keras-en"),
        "keras": keras.__version__,
        "model": model.name,
        "parameters": model.count_params(),
        "norm": dict(sorted(collections.Counter(norms.values()).items())),
        "layers": norms,
    }
    mixing = [layer for layer in layers_of(model) if takes_ratios(layer)]
    if mixing:
        facts["normalizers"] = _once(tuple(layer.pool) for layer in mixing)
        # Resolved: "auto" depends on the layer's channels.
        facts["r"] = _once(
            layer.resolved_reduction if layer.ratio_conv is not None else None
            for layer in mixing
        )
        facts["pi"] = _once(layer.expansion for layer in mixing)
    return facts


def write(directory: Path, facts: dict) -> None:
    """Puts facts into a SavedModel's version."""
    file = directory / FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def read(directory: Path) -> dict:
    """The facts in a SavedModel's version; none if it was made by others."""
    file = directory / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _once(values):
    return list(dict.fromkeys(values))
