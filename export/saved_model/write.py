"""SavedModel for TensorFlow Serving."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_en import arguments, files
from keras_en.text import one_line

from .. import facts, serving
from ..keras_private import without_xla
from ..pixels import resolved
from . import graph as tensorflow_graph
from . import warmup, written

SIGNATURES = ("serving_default", "serving_bytes", "ratios")
# TensorFlow Serving keeps it in 64 bits.
LAST_VERSION = 2**63 - 1


def export_saved_model(
    model: Any,
    directory: str | os.PathLike[str],
    version: int | None = None,
    signatures: list | tuple | None = None,
    image_size: list | tuple | None = None,
    mean: float | list | tuple = 0.0,
    std: float | list | tuple = 1.0,
    pixels: str = "auto",
    warmup_requests: bool = True,
    metadata: dict | None = None,
    overwrite: bool = False,
    check: Callable[[Path], Any] | None = None,
) -> Path:
    """Writes `directory/<version>/`, which TensorFlow Serving loads.

    Signatures, all in inference mode, of any batch size, computed in float32, with
    named inputs and outputs ("inputs" and "outputs" where there is one):

    - "serving_default": the model's inputs to its outputs.
    - "serving_bytes": "image_bytes", a string tensor `(N,)` of encoded JPEG or PNG
      images, to the model's outputs. Each is decoded, resized (bilinear, antialiased)
      and normalized, `(pixels / 255 - mean) / std`, or `(pixels - mean) / std` for a
      model that rescales pixels itself (`pixels`).
    - "ratios": inputs to outputs, and the important ratios `(N, K)` of every
      `ExemplarNormalization` by the name of the layer. Not of one that runs in a loop,
      such as an RNN's cell: then, a printed line says, there is no such signature.

    Unlike `tf.saved_model.save(model)`, what is written can be read by the C++ loader
    of TensorFlow Serving. No XLA is needed there: functions of the model with
    `jit_compile=True` are written as all others. `assets.extra/` holds the warm-up
    requests that it plays to itself, and `keras_en.json`, what `inspect` shows.
    Everything is written beside its final place and moved there: no half version is
    ever visible.

    >>> import keras, tempfile
    >>> from keras_en import export
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> path = export.export_saved_model(model, tempfile.mkdtemp())
    >>> export.inspect(path).signatures["serving_default"]
    ({'inputs': ('float32', [None, 2])}, {'outputs': ('float32', [None, 1])})

    Args:
        model: A functional or Sequential model, built, or the path of a `.keras` file.
            Layers in other dtypes are copied to float32 first.
        directory: Path; made if absent.
        version: Positive integer below 2**63. `None`: one more than the largest in
            `directory`.
        signatures: Names of those wanted. `None`: all that the model can have.
        image_size: Height and width, where the model leaves them open. `None`: any.
        mean, std: For "serving_bytes": a float, or one for each channel.
        pixels: For "serving_bytes", the numbers from which `mean` is subtracted:
            "0-255", "0-1", or "auto": "0-255" if the model takes integers, or begins
            with `Rescaling`, `Normalization` or arithmetic for numbers of that size,
            in nested models too; otherwise "0-1". `inspect` shows which.
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
        ValueError: An argument is not among those allowed, or `model` holds NaN,
            assigns variables or draws random numbers in inference mode, which
            TensorFlow Serving would do with every request, or holds a layer that was
            called with `training=True`, or what only XLA can run.
    """
    options: dict[str, Any] = dict(signatures=signatures, image_size=image_size)
    options.update(mean=mean, std=std, pixels=pixels)
    place = directory, version, warmup_requests, metadata, overwrite
    with staged_saved_model(model, *place, **options) as staged:
        if check is not None:
            check(staged.path)
        return staged.publish()


@contextlib.contextmanager
def staged_saved_model(
    model: Any,
    directory: str | os.PathLike[str],
    version: int | None = None,
    warmup_requests: bool = True,
    metadata: dict | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Iterator[files.Staged]:
    """As `export_saved_model`, but for the last step.

    Yields:
        `keras_en.files.Staged`, the whole version, which `publish` moves to its place;
        otherwise it is lost.
    """
    arguments.check_backend("Export to SavedModel needs the TensorFlow backend")
    path = _place(Path(directory), version, overwrite)
    if warmup_requests:
        warmup.check_installed()
    model = serving.prepare(model).model
    chosen = _chosen(model, **options)
    endpoints = _built(model, chosen, options.get("signatures") is None)
    functions = {name: endpoint.function for name, endpoint in endpoints.items()}
    requests = [(n, warmup.zeros(e.specs)) for n, e in endpoints.items()]
    with files.staged(path) as staged:
        with _writing(path):
            written.save(model, functions, staged.path)
            if warmup_requests:
                warmup.write(staged.path / warmup.FILE, model.name, requests)
        graph = tensorflow_graph.read(staged.path)
        more = {
            "options": chosen._asdict(),
            "pixels_from": options.get("pixels", "auto"),
            "graph_hash": tensorflow_graph.hash_of_signatures(graph),
            "metadata": metadata or {},
        }
        facts.write(staged.path, {**facts.facts_of(model), **more})
        yield staged


@contextlib.contextmanager
def _writing(path):
    """What TensorFlow says of a full disk is an error of writing."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise files.CannotWrite(
            f"{path} cannot be written: {one_line(error.message)}"
        ) from error


def _place(directory, version, overwrite):
    """The folder of the version, which is free, or may be replaced."""
    whole = isinstance(version, int) and not isinstance(version, bool)
    right = version is None or (whole and 0 < version <= LAST_VERSION)
    arguments.check(right, "version", "a positive integer below 2**63", version)
    if directory.exists() and not directory.is_dir():
        received = f"{directory}, a file"
        raise arguments.refused("directory", "a folder", received, FileExistsError)
    if directory.suffix == ".onnx" and not directory.exists():
        allowed = "a folder's name; --to onnx writes a file (`export_onnx`)"
        raise arguments.refused("directory", allowed, directory)
    number = version or next_version(directory)
    allowed = f"given, since {directory} holds the last one there can be"
    arguments.check(number <= LAST_VERSION, "version", allowed, version)
    path = directory / str(number)
    files.check_free(path, overwrite, "directory")
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise FileExistsError(
            "Argument `overwrite` replaces versions only, folders that hold "
            f"saved_model.pb. Received: {path}"
        )
    return path


def next_version(directory: Path) -> int:
    """One more than the largest version in a folder."""
    versions = [version_of(path.name) or 0 for path in directory.glob("*")]
    return max(versions, default=0) + 1


def version_of(name: str) -> int | None:
    """The version that TensorFlow Serving takes a folder for: a number in ASCII digits
    that fits 64 bits."""
    # Python alone reads other digits, and refuses to read thousands of them.
    digits = name.lstrip("0") or "0"
    if not (name.isascii() and name.isdecimal()) or len(digits) > 19:
        return None
    return int(digits) if int(digits) <= LAST_VERSION else None


def _chosen(model, signatures=None, image_size=None, mean=0.0, std=1.0, pixels="auto"):
    """Options as JSON keeps them, none of them open."""
    return facts.SavedModelOptions(
        list(signatures or available(model, image_size)),
        list(image_size) if image_size else None,
        list(mean) if isinstance(mean, (list, tuple)) else mean,
        list(std) if isinstance(std, (list, tuple)) else std,
        resolved(pixels, model),
    )


def _built(model, chosen, by_default):
    """`build`; without "ratios" where these cannot be had and nobody asked for them."""
    try:
        return build(model, chosen)
    except serving.RatiosInLoop as error:
        if not by_default:
            raise
        print(f'Written without "ratios". {error}')
        chosen.signatures.remove("ratios")
        return build(model, chosen)


class Endpoint(NamedTuple):
    """A `tf.ConcreteFunction` of `specs`."""

    function: Callable
    specs: list


def build(model: keras.Model, options: facts.SavedModelOptions) -> dict[str, Endpoint]:
    """The `Endpoint` of every signature."""
    possible = available(model, options.image_size)
    endpoints = {}
    for name in options.signatures:
        allowed = (
            f"a list of names of {possible} for this model: "
            '"serving_bytes" needs one input of known size with 1 or 3 channels '
            '(image_size gives it), "ratios" an ExemplarNormalization'
        )
        arguments.check(name in possible, "signatures", allowed, name)
        endpoints[name] = _endpoint(model, name, options)
    return endpoints


def _endpoint(model, name, options):
    import tensorflow as tf

    interface = serving.interface(model, options.image_size)
    specs = [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in interface.inputs]
    if name == "serving_bytes":
        image, mean, std = interface.inputs[0], options.mean, options.std
        _check_pixels("mean", mean, image.shape[-1])
        _check_pixels("std", std, image.shape[-1], positive=True)
        serve = serving.forward_bytes(model, image, mean, std, options.pixels)
        specs = [tf.TensorSpec((None,), tf.string, name=serving.BYTES)]
    elif name == "ratios":
        serve = serving.forward_with_ratios(model)
    else:
        serve = serving.forward(model)
    function = tf.function(serve, input_signature=specs, autograph=False)
    with without_xla() as compiled:
        traced = function.get_concrete_function()
    _check_servable(traced, name)
    if compiled:
        _check_plain_kernels(traced, name, specs)
    return Endpoint(traced, specs)


def available(model: keras.Model, image_size: Any = None) -> list[str]:
    """The signatures that a model can have."""
    inputs = serving.interface(model, image_size).inputs
    possible = {
        "serving_default": True,
        "serving_bytes": serving.can_decode(inputs),
        "ratios": bool(serving.mixing_layers(model)),
    }
    return [name for name in SIGNATURES if possible[name]]


def _check_servable(function, name):
    graph = tensorflow_graph.Graph(function.graph.as_graph_def())
    # The nodes of a function being traced are those of its graph, all of them run.
    wrong = tensorflow_graph.unservable(*graph.reached(graph.nodes))
    if wrong:
        raise ValueError(
            "Argument `model` must neither assign variables, nor draw random numbers, "
            "nor run Python code in inference mode, nor a ConcreteFunction of "
            "tf.function(jit_compile=True); call the tf.function itself. "
            f"Received: {name}, of which {'; '.join(wrong[:5])}"
        )


def _check_plain_kernels(function, name, specs):
    """What XLA would have compiled may hold what nothing else can run."""
    import tensorflow as tf

    # As TensorFlow Serving will, for the warm-up.
    arrays = warmup.zeros(specs)
    try:
        function(*(tf.constant(arrays[spec.name], spec.dtype) for spec in specs))
    except tf.errors.OpError as error:
        # Behind where it was traced.
        words = one_line(error.message.rpartition("\n\n")[2])
        raise ValueError(
            "Argument `model` must be made of operations that TensorFlow can run "
            "without XLA (on a CPU neither a Conv3D with groups, nor groups or a "
            'Conv3D with data_format="channels_first"; `export_onnx` writes them all). '
            f"Received: {name}: {words}"
        ) from error


def _check_pixels(name, value, channels, positive=False):
    values = value if isinstance(value, list) else [value]
    right = len(values) in (1, channels) and all(
        isinstance(v, (int, float)) and (v > 0 or not positive) for v in values
    )
    kind = "a positive number" if positive else "a number"
    allowed = f"{kind}, or one for each of {channels} channels"
    arguments.check(right, name, allowed, value)
