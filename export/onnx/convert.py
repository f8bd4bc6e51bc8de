"""ONNX files."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras

from keras_en import arguments, files

from ..facts import OnnxOptions
from . import graph as onnx_graph
from . import jax, tensorflow
from .compact import compact
from .float16 import to_float16
from .source import DIMENSIONS, Source, source_of

# tf2onnx writes the first of these; onnx converts them to later ones.
OPSETS = range(9, 24)
LAYOUTS = ("nhwc", "nchw")


def export_onnx(
    model: Any,
    path: str | os.PathLike[str],
    opset: int = 17,
    dynamic: tuple | list = ("batch",),
    image_size: tuple | list | None = None,
    layout: str = "nhwc",
    fp16: bool = False,
    simplify: bool = False,
    metadata: dict | None = None,
    overwrite: bool = False,
    check: Callable[[Path], Any] | None = None,
) -> Path:
    """Writes an ONNX file of the model in inference mode.

    Inputs and outputs are "inputs" and "outputs" where there is one, otherwise those of
    the model by their names, or by the keys of the dictionary it returns. It uses
    operators of the standard domain only, and its metadata, which onnxruntime shows as
    `custom_metadata_map`, holds what `inspect` prints. The file appears when it is
    whole; weights above 2 GB are in `<path>.data`.

    >>> import keras, tempfile
    >>> from keras_en import export
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> path = export.export_onnx(model, tempfile.mkdtemp() + "/m.onnx")
    >>> export.inspect(path).signatures["serving_default"]
    ({'inputs': ('float32', ['batch', 2])}, {'outputs': ('float32', ['batch', 1])})

    Args:
        model: A functional or Sequential model, built, or the path of a `.keras` file.
            Layers in other dtypes are copied to float32 first. Or the path of a
            SavedModel's version, whose "serving_default" is converted.
        path: Path of the file, ending in `.onnx`.
        opset: ONNX opset, 9 to 23; tf2onnx writes 9 to 18, onnx converts the rest.
        dynamic: Names of the dimensions that are left open, of "batch", "height" and
            "width". Without "batch" its size is 1.
        image_size: Height and width, where the model leaves them open.
        layout: "nhwc" or "nchw", of rank-4 inputs and outputs.
        fp16: Whether to compute in float16, but for the statistics of normalizations;
            inputs and outputs stay float32.
        simplify: Whether to simplify the graph with onnxslim.
        metadata: Dictionary of whatever the metadata shall hold as well; values that
            are no strings are written as JSON (`{"class_names": [...]}`).
        overwrite: Whether the file may exist.
        check: Called with the path of what was written before it is moved; what it
            raises ends the export.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        FileExistsError: The file exists, and `overwrite` is `False`.
        FileNotFoundError: `model` is a path where there is nothing.
        RuntimeError: A package is missing, or the backend is neither TensorFlow nor
            JAX.
        ValueError: An argument is not among those allowed, a size is not known, or
            `model` holds NaN.
    """
    options = dict(opset=opset, dynamic=dynamic, image_size=image_size, layout=layout)
    options.update(fp16=fp16, simplify=simplify)
    with staged_onnx(model, path, metadata, overwrite, **options) as staged:
        if check is not None:
            check(staged.path)
        return staged.publish()


@contextlib.contextmanager
def staged_onnx(
    model: Any,
    path: str | os.PathLike[str],
    metadata: dict | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Iterator[files.Staged]:
    """As `export_onnx`, but for the last step.

    Yields:
        `keras_en.files.Staged`, the whole file, which `publish` moves to its place;
        otherwise it is lost.
    """
    path = Path(path)
    _check_path(path, overwrite)
    chosen = _checked(**options)
    source = source_of(model, chosen.image_size, chosen.dynamic)
    proto = _converted(source, chosen)
    facts = {**source.facts, "options": chosen._asdict()}
    facts["graph_hash"] = onnx_graph.graph_hash(proto)
    reserved = sorted(set(facts) & set(metadata or {}))
    what = f"not hold the keys {reserved}, which the export writes"
    received = f"metadata={metadata!r}"
    arguments.require(not reserved, "Argument `metadata`", what, received)
    onnx_graph.set_metadata(proto, {**facts, **(metadata or {})})
    # It names its external weights, which are beside it.
    with files.staged(path, path.name) as staged:
        onnx_graph.save(proto, staged.path)
        onnx_graph.check(staged.path, proto)
        weights = f"{path.name}.data"
        external = staged.path.with_name(weights).exists()
        yield staged
        published = not staged.path.exists()
        if published and not external:
            path.with_name(weights).unlink(missing_ok=True)


def build(model: Any, **options: Any) -> Any:
    """The `onnx.ModelProto` that `export_onnx` writes, without its metadata; arguments
    as there."""
    chosen = _checked(**options)
    return _converted(source_of(model, chosen.image_size, chosen.dynamic), chosen)


def _checked(**options):
    need = "Export to ONNX needs the TensorFlow or the JAX backend"
    arguments.check_backend(need, ("tensorflow", "jax"))
    on_tensorflow = keras.backend.backend() == "tensorflow"
    packages = ["onnx", "tf2onnx"] if on_tensorflow else ["onnx"]
    arguments.check_installed("Export to ONNX", packages, "export")
    opset, dynamic, image_size, layout, *_ = chosen = OnnxOptions(**options)
    allowed = f"an integer from {OPSETS[0]} to {OPSETS[-1]}"
    right = opset in OPSETS and not isinstance(opset, bool)
    arguments.check(right, "opset", allowed, opset)
    arguments.check(layout in LAYOUTS, "layout", f"one of {LAYOUTS}", layout)
    if keras.config.image_data_format() == "channels_first":
        allowed = "'nhwc', which leaves a model as it is, for one with channels first"
        arguments.check(layout == "nhwc", "layout", allowed, layout)
    right = not isinstance(dynamic, str) and set(dynamic) <= set(DIMENSIONS)
    arguments.check(right, "dynamic", f"names of {DIMENSIONS}", dynamic)
    image_size = list(image_size) if image_size else None
    return chosen._replace(dynamic=list(dynamic), image_size=image_size)


def _check_path(path, overwrite):
    if path.suffix != ".onnx":
        raise ValueError(f"Argument `path` must end in .onnx. Received: path={path}")
    files.check_free(path, overwrite, "path")
    if path.is_dir():
        raise arguments.refused("path", "a file", f"{path}, a folder", FileExistsError)


def _converted(source: Source, options: OnnxOptions):
    if keras.backend.backend() == "jax":
        proto = jax.convert(source, options.opset, options.layout, options.fp16)
    else:
        opset = min(options.opset, tensorflow.LAST)
        proto, calls = tensorflow.convert(source, opset, options.layout)
        compact(proto, calls)
    if options.opset > proto.opset_import[0].version:
        proto = onnx_graph.later(proto, options.opset)
    if options.simplify:
        proto = onnx_graph.simplified(proto)
    if options.fp16:
        to_float16(proto, source.facts.get("layers", {}))
    onnx_graph.fill(proto, source.weights)
    return proto
