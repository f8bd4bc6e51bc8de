"""SavedModel for TensorFlow Serving."""

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

import keras

from keras_en import files
from keras_en.keras_private import layers_of

from .. import serving
from ..record import FILE, record
from . import graph as graphs
from . import warmup

SIGNATURES = ("serving_default", "serving_bytes", "ratios")


def export_saved_model(
    model,
    directory,
    version=None,
    signatures=None,
    image_size=None,
    mean=0.0,
    std=1.0,
    warmup_requests=True,
    metadata=None,
    overwrite=False,
    check=None,
):
    """Writes `directory/<version>/`, which TensorFlow Serving loads.

    Signatures, all in inference mode, of any batch size, computed in float32, with
    named inputs and outputs ("inputs" and "outputs" where there is one):

    - "serving_default": the model's inputs to its outputs.
    - "serving_bytes": "image_bytes", a string tensor `(N,)` of encoded JPEG or PNG
      images, to the model's outputs. Each is decoded, resized (bilinear, antialiased)
      and normalized, `(pixels / 255 - mean) / std`.
    - "ratios": inputs to outputs, and the important ratios `(N, K)` of every
      `ExemplarNormalization` by the name of the layer.

    Unlike `tf.saved_model.save(model)`, what is written can be read by the C++ loader
    of TensorFlow Serving. `assets.extra/` holds the warm-up requests that it plays to
    itself, and `keras_en.json`, what `inspect` shows. Everything is written beside its
    final place and moved there: no half version is ever visible.

    Args:
        model: A functional or Sequential model, built, or the path of a `.keras` file.
            Layers in other dtypes are copied to float32 first.
        directory: Path; made if absent.
        version: Positive integer. `None`: one more than the largest in `directory`.
        signatures: Names of those wanted. `None`: all that the model can have.
        image_size: Height and width, where the model leaves them open. `None`: any.
        mean, std: For "serving_bytes": a float, or one for each channel.
        warmup_requests: Whether to write warm-up requests, one for each signature;
            they need tensorflow-serving-api.
        metadata: Dictionary of whatever `keras_en.json` shall hold as well.
        overwrite: Whether the version may exist.
        check: Called with the path of what was written before it is moved; what it
            raises ends the export.

    Returns:
        `pathlib.Path` of the version's directory.

    Raises:
        FileExistsError: The version exists, and `overwrite` is `False`.
        FileNotFoundError: `model` is a path where there is no file.
        RuntimeError: The backend is not TensorFlow, or a package is missing.
        ValueError: An argument is not among those allowed, or `model` assigns
            variables or draws random numbers in inference mode, which TensorFlow
            Serving would do with every request, or holds a layer that was called with
            `training=True`.
    """
    with staged_saved_model(
        model,
        directory,
        version,
        signatures,
        image_size,
        mean,
        std,
        warmup_requests,
        metadata,
        overwrite,
    ) as staged:
        if check is not None:
            check(staged.path)
        return staged.publish()


@contextlib.contextmanager
def staged_saved_model(
    model,
    directory,
    version=None,
    signatures=None,
    image_size=None,
    mean=0.0,
    std=1.0,
    warmup_requests=True,
    metadata=None,
    overwrite=False,
):
    """As `export_saved_model`, but for the last step: yields a `keras_en.files.Staged`,
    the whole version, which `publish` moves to its place; otherwise it is lost."""
    _check_backend()
    _check_version(version)
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(
            f"Argument `directory` must be a folder. Received: {directory}, a file"
        )
    if directory.suffix == ".onnx" and not directory.exists():
        raise ValueError(
            "Argument `directory` must be a folder's name; --to onnx writes a file "
            f"(`export_onnx`). Received: {directory}"
        )
    path = directory / str(version or next_version(directory))
    files.check_free(path, overwrite, "directory")
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise FileExistsError(
            "Argument `overwrite` replaces versions only, folders that hold "
            f"saved_model.pb. Received: {path}"
        )
    if warmup_requests:
        warmup.check_installed()
    model = serving.prepare(model).model
    options = {
        "signatures": list(signatures or available(model, image_size)),
        "image_size": list(image_size) if image_size else None,
        "mean": _plain(mean),
        "std": _plain(std),
    }
    endpoints = build(model, **options)
    archive = keras.export.ExportArchive()
    # Not the model itself: everything would be saved twice.
    for layer in layers_of(model):
        if hasattr(layer, "lookup_table"):
            archive.track(layer)
    for name, endpoint in endpoints.items():
        archive.add_endpoint(name, endpoint.function)
    with files.staged(path) as staged:
        new = staged.path
        archive.write_out(str(new), verbose=False)
        if warmup_requests:
            requests = [(n, warmup.zeros(e.specs)) for n, e in endpoints.items()]
            warmup.write(new / warmup.FILE, model.name, requests)
        facts = record(
            model,
            options=options,
            graph_hash=graphs.hash_of_signatures(graphs.read(new)),
            metadata=metadata or {},
        )
        (new / FILE).parent.mkdir(exist_ok=True)
        (new / FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        yield staged


class Endpoint(NamedTuple):
    """A `tf.function` that has been traced once, for `specs`."""

    function: object
    specs: list


def build(model, signatures, image_size, mean, std):
    """The `Endpoint` of every signature; arguments as in `export_saved_model`."""
    import tensorflow as tf

    possible = available(model, image_size)
    inputs = serving.interface(model, image_size)
    found = {}
    for name in signatures:
        if name not in SIGNATURES:
            raise ValueError(
                f"Argument `signatures` must hold names of {SIGNATURES}. "
                f"Received: {name!r}"
            )
        if name not in possible:
            raise ValueError(
                f"Argument `signatures` must hold names of {possible} for this model: "
                '"serving_bytes" needs one input of known size with 1 or 3 channels '
                '(image_size gives it), "ratios" an ExemplarNormalization. '
                f"Received: {name!r}"
            )
        specs = inputs.specs
        if name == "serving_bytes":
            image = inputs.inputs[0]
            _check_pixels("mean", mean, image.shape[-1])
            _check_pixels("std", std, image.shape[-1], positive=True)
            serve = serving.forward_bytes(model, image, mean, std)
            specs = [tf.TensorSpec((None,), tf.string, name=serving.BYTES)]
        elif name == "ratios":
            serve = serving.forward_with_ratios(model)
        else:
            serve = serving.forward(model)
        function = tf.function(serve, input_signature=specs, autograph=False)
        _check_servable(function.get_concrete_function(), name)
        found[name] = Endpoint(function, specs)
    return found


def available(model, image_size=None):
    """The signatures that a model can have."""
    inputs = serving.interface(model, image_size).inputs
    found = ["serving_default"]
    if serving.can_decode(inputs):
        found.append("serving_bytes")
    if serving.mixing_layers(model):
        found.append("ratios")
    return found


def next_version(directory):
    found = [int(p.name) for p in directory.glob("*") if p.name.isdecimal()]
    return max(found, default=0) + 1


def _check_backend():
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Export to SavedModel needs the TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )


def _check_servable(function, name):
    graph = graphs.Graph(function.graph.as_graph_def())
    # The nodes of a function being traced are those of its graph, all of them run.
    wrong = graphs.unservable(*graph.reached(graph.nodes))
    if wrong:
        raise ValueError(
            "Argument `model` must neither assign variables, nor draw random numbers, "
            "nor run Python code in inference mode. "
            f"Received: {name}, of which {'; '.join(wrong[:5])}"
        )


def _check_version(version):
    if version is None:
        return
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(
            "Argument `version` must be a positive integer. "
            f"Received: version={version!r}"
        )


def _check_pixels(name, value, channels, positive=False):
    values = value if isinstance(value, list) else [value]
    right = len(values) in (1, channels) and all(
        isinstance(v, (int, float)) and (v > 0 or not positive) for v in values
    )
    if not right:
        kind = "a positive number" if positive else "a number"
        raise ValueError(
            f"Argument `{name}` must be {kind}, or one for each of {channels} "
            f"channels. Received: {name}={value!r}"
        )


def _plain(value):
    return list(value) if isinstance(value, (list, tuple)) else value
