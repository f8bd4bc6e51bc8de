"""What an artefact says about itself."""

import collections
import json
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_en.keras_private import layers_of
from keras_en.layers.recording import takes_ratios
from keras_en.version import __version__

# Where a SavedModel keeps it.
FILE = "assets.extra/keras_en.json"
LIBRARY = "keras_en"
# The kind of what is read of a record.
_KINDS: dict[str, Any] = {"layers": dict, "options": dict, "graph_hash": str}


class OnnxOptions(NamedTuple):
    """Those of `export_onnx`, as a record has them: all that another export is given
    of it."""

    opset: int = 17
    dynamic: list = ["batch"]
    image_size: list | None = None
    layout: str = "nhwc"
    fp16: bool = False
    simplify: bool = False


class SavedModelOptions(NamedTuple):
    """Those of `export_saved_model`, likewise."""

    signatures: list
    image_size: list | None
    mean: int | float | list
    std: int | float | list
    pixels: str


OPTIONS: dict[str, Any] = {"ONNX": OnnxOptions, "SavedModel": SavedModelOptions}


def facts_of(model: keras.Model) -> dict:
    """Facts about a model that is exported, ready for JSON.

    `norm` counts the layers of each class of normalization; `normalizers`, `r` and
    `pi` are those of Exemplar Normalization, each value once; `layers` has the class of
    every normalization by its name.
    """
    norms = [
        (layer.name, type(layer).__name__)
        for layer in layers_of(model)
        if type(layer).__name__.endswith("Normalization")
    ]
    counts = collections.Counter(kind for _, kind in norms)
    facts = {
        "library": LIBRARY,
        "version": __version__,
        "keras": keras.__version__,
        "model": model.name,
        "parameters": model.count_params(),
        "norm": dict(sorted(counts.items())),
        "layers": dict(norms),
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


def checked(record: Any) -> dict:
    """A record, if it has the form that `write` gives it.

    Raises:
        ValueError: It has another.
    """
    if not isinstance(record, dict) or _of_other_kinds(record):
        raise ValueError(
            "its record must be an object that holds objects as `layers`, of texts, "
            f"and as `options`, and text as `graph_hash`. Received: {record!r:.200}"
        )
    return record


def own(metadata: dict) -> dict:
    """The metadata of a file of any origin; what has the names of ours, but is not of
    this library, is left out if it is of another kind."""
    if metadata.get("library") == LIBRARY:
        return checked(metadata)
    others = _of_other_kinds(metadata)
    return {key: value for key, value in metadata.items() if key not in others}


def options_of(record: dict, kind: str) -> dict:
    """The options of an export, "ONNX" or "SavedModel", as its record has them.

    Raises:
        ValueError: There are others, or of other kinds.
    """
    options, kinds = record.get("options", {}), OPTIONS[kind].__annotations__
    for name, value in options.items():
        right = name in kinds and isinstance(value, kinds[name])
        if not right or (isinstance(value, bool) and kinds[name] is not bool):
            raise ValueError(
                f"the record's options must be among {list(kinds)}, as the export "
                f"writes them. Received: {name!r}: {value!r:.200}"
            )
    return options


def _of_other_kinds(record):
    """Names of what is read of a record and is not of its kind."""
    wrong = {k for k, v in record.items() if not isinstance(v, _KINDS.get(k, object))}
    layers = record.get("layers", {})
    if "layers" not in wrong and not all(isinstance(v, str) for v in layers.values()):
        wrong.add("layers")
    return wrong


def _once(values):
    return list(dict.fromkeys(values))
