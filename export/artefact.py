"""What a file or folder says about itself."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from keras_en.arguments import check_installed, refused
from keras_en.text import one_line

from . import facts
from .calls import nodes_of_calls
from .onnx import graph as onnx_graph
from .saved_model import graph as tensorflow_graph
from .saved_model.warmup import FILE as WARMUP

_WEIGHTS = ("Const", "ReadVariableOp", "VarHandleOp")


class Unreadable(ValueError):
    """What is there is damaged, or of another kind."""


@contextlib.contextmanager
def _reading(path, kind):
    """Whatever readers of damaged files raise (protobuf, onnx, JSON, this package's
    walks of graphs) is one error."""
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(
            f"{path} is not {kind}, or cannot be read: {one_line(error)}"
        ) from error


class Artefact(NamedTuple):
    """A SavedModel's version or an ONNX file.

    - `kind`: "SavedModel" or "ONNX".
    - `path`: `pathlib.Path`.
    - `signatures`: for each name (an ONNX file has "serving_default" only) a pair of
      dictionaries, inputs and outputs: name to dtype and shape, in which an open size
      is `None`, or the name it has in an ONNX file.
    - `record`: what the export wrote about it; empty if it was made by others.
    - `proto`: `MetaGraphDef` or `onnx.ModelProto`.
    """

    kind: str
    path: Path
    signatures: dict
    record: dict
    proto: Any

    @property
    def graph_hash(self) -> str:
        """Identifies what it computes, whatever its nodes are called."""
        with _reading(self.path, "a sound artefact"):
            if self.kind == "ONNX":
                return onnx_graph.graph_hash(self.proto)
            return tensorflow_graph.hash_of_signatures(self.proto)

    @property
    def node_names(self) -> list[str]:
        """Names of the nodes behind "serving_default"."""
        if self.kind == "ONNX":
            return [node.name for node in self.proto.graph.node]
        if "serving_default" not in self.proto.signature_def:
            return []
        outputs = self.proto.signature_def["serving_default"].outputs.values()
        graph = tensorflow_graph.Graph(self.proto.graph_def)
        nodes, _ = graph.reached(tensor.name for tensor in outputs)
        return [node.name for node in nodes if node.op not in _WEIGHTS]

    @property
    def nodes_of_layers(self) -> dict[str, list[int]]:
        """For each class of normalization the number of nodes of every call, constants
        and the reading of variables not counted."""
        classes = self.record.get("layers", {})
        counts: dict[str, list[int]] = {}
        for layer, calls in self.nodes_of_calls.items():
            counts.setdefault(classes[layer], []).extend(calls)
        return counts

    @property
    def nodes_of_calls(self) -> dict[str, list[int]]:
        """The same for each normalization."""
        counts: dict[str, list[int]] = {}
        calls = nodes_of_calls(self.node_names, self.record.get("layers", {}))
        for (layer, _), count in calls.items():
            counts.setdefault(layer, []).append(count)
        return counts


def read(path: str | os.PathLike[str]) -> Artefact:
    """The `Artefact` at a path.

    >>> import keras, tempfile
    >>> from keras_en import export
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> path = export.export_onnx(model, tempfile.mkdtemp() + "/m.onnx")
    >>> artefact = export.inspect(path)
    >>> artefact.kind, artefact.record["parameters"]
    ('ONNX', 3)

    Raises:
        FileNotFoundError: There is nothing, or neither a SavedModel nor an ONNX file.
        RuntimeError: A package is missing.
        ValueError: It cannot be read.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        check_installed("Reading a SavedModel", ["tensorflow"])
        with _reading(path, "a SavedModel"):
            return _saved_model(path)
    if path.suffix == ".onnx" and path.is_file():
        check_installed("Reading an ONNX file", ["onnx"], "export")
        with _reading(path, "an ONNX file"):
            return _onnx(path)
    if not path.exists():
        allowed = "the path of a SavedModel's version or of an ONNX file that is there"
        absent = f"{path}, which does not exist"
        raise refused("artefact", allowed, absent, FileNotFoundError)
    versions = [p for p in path.glob("*") if (p / "saved_model.pb").is_file()]
    hint = f"; its versions are {sorted(map(str, versions))}" if versions else ""
    raise FileNotFoundError(
        "Argument `artefact` must be a SavedModel's version, a folder that holds "
        f"saved_model.pb, or a file that ends in .onnx. Received: {path}{hint}"
    )


def _saved_model(path):
    from tensorflow import TensorShape, as_dtype

    meta = tensorflow_graph.read(path)

    def described(info):
        shape = TensorShape(info.tensor_shape)
        sizes = None if shape.rank is None else shape.as_list()
        return as_dtype(info.dtype).name, sizes

    signatures = {
        name: tuple(
            {key: described(info) for key, info in sorted(tensors.items())}
            for tensors in (signature.inputs, signature.outputs)
        )
        for name, signature in sorted(meta.signature_def.items())
        if not name.startswith("__")
    }
    record = facts.checked(facts.read(path))
    if record:
        record["warmup_requests"] = (path / WARMUP).is_file()
    return Artefact("SavedModel", path, signatures, record, meta)


def _onnx(path):
    import onnx

    proto = onnx.load(str(path))
    if not proto.graph.output:
        raise Unreadable(f"{path} is not an ONNX file: it has no graph")

    def described(value):
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        return dtype, [
            d.dim_value if d.HasField("dim_value") else d.dim_param or None
            for d in tensor.shape.dim
        ]

    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    signature = tuple(
        {value.name: described(value) for value in values}
        for values in (inputs, proto.graph.output)
    )
    signatures = {"serving_default": signature}
    record = facts.own(onnx_graph.get_metadata(proto))
    # Raises: protobuf hands out as bytes what is no text.
    json.dumps([signatures, record])
    return Artefact("ONNX", path, signatures, record, proto)
