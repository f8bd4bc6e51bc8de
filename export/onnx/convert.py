"""ONNX files, through tf2onnx."""

import contextlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import keras

from keras_en import files
from keras_en.keras_private import layers_of
from keras_en.text import unique_all

from .. import serving
from ..calls import scopes
from ..precision import structure
from ..record import FILE, record
from . import graph as onnx_graph
from . import jax as jax_onnx
from .compact import compact
from .float16 import in_float16

# tf2onnx writes opsets up to 18; onnx converts these to later ones.
NATIVE, OPSETS = 18, range(9, 24)
LAYOUTS = ("nhwc", "nchw")
DIMENSIONS = ("batch", "height", "width")


def export_onnx(
    model,
    path,
    opset=17,
    dynamic=("batch",),
    image_size=None,
    layout="nhwc",
    fp16=False,
    simplify=False,
    metadata=None,
    overwrite=False,
    check=None,
):
    """Writes an ONNX file of the model in inference mode.

    Inputs and outputs are "inputs" and "outputs" where there is one, otherwise those of
    the model by their names, or by the keys of the dictionary it returns. It uses
    operators of the standard domain only, and its metadata, which onnxruntime shows as
    `custom_metadata_map`, holds what `inspect` prints. The file appears when it is
    whole; weights above 2 GB are in `<path>.data`.

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
        ValueError: An argument is not among those allowed, or a size is not known.
    """
    with staged_onnx(
        model,
        path,
        opset,
        dynamic,
        image_size,
        layout,
        fp16,
        simplify,
        metadata,
        overwrite,
    ) as staged:
        if check is not None:
            check(staged.path)
        return staged.publish()


@contextlib.contextmanager
def staged_onnx(
    model,
    path,
    opset=17,
    dynamic=("batch",),
    image_size=None,
    layout="nhwc",
    fp16=False,
    simplify=False,
    metadata=None,
    overwrite=False,
):
    """As `export_onnx`, but for the last step: yields a `keras_en.files.Staged`, the
    whole file, which `publish` moves to its place; otherwise it is lost."""
    path = Path(path)
    _check_backend("tensorflow", "jax")
    _check_path(path, overwrite)
    _check_arguments(opset, dynamic, layout)
    options = {
        "opset": opset,
        "dynamic": list(dynamic),
        "image_size": list(image_size) if image_size else None,
        "layout": layout,
        "fp16": fp16,
        "simplify": simplify,
    }
    source = _source(model, image_size, dynamic)
    proto = _converted(source, **options)
    facts = {**source.facts, "options": options}
    facts["graph_hash"] = onnx_graph.graph_hash(proto)
    reserved = sorted(set(facts) & set(metadata or {}))
    if reserved:
        raise ValueError(
            f"Argument `metadata` must not hold the keys {reserved}, which the export "
            f"writes. Received: metadata={metadata!r}"
        )
    onnx_graph.set_metadata(proto, {**facts, **(metadata or {})})
    # It names its external weights, which are beside it.
    with files.staged(path, path.name) as staged:
        onnx_graph.save(proto, staged.path)
        onnx_graph.check(staged.path, proto)
        data = f"{path.name}.data"
        external = staged.path.with_name(data).exists()
        yield staged
        published = not staged.path.exists()
        if published and not external:
            path.with_name(data).unlink(missing_ok=True)


def build(
    model,
    opset=17,
    dynamic=("batch",),
    image_size=None,
    layout="nhwc",
    fp16=False,
    simplify=False,
):
    """The `onnx.ModelProto` that `export_onnx` writes, without its metadata; arguments
    as there."""
    source = _source(model, image_size, dynamic)
    return _converted(source, opset, dynamic, image_size, layout, fp16, simplify)


class Source(NamedTuple):
    """What is converted.

    - `serve`: function from tensors to a dictionary of outputs.
    - `outputs`: names of these.
    - `inputs`: tuple of `keras.KerasTensor`, in which `None` is a dynamic size.
    - `weights`: dictionary of those that do not fit into a graph, by name; `serve`
      takes them behind the inputs.
    - `facts`: see `record`.
    - `scopes`: names of the model and of its layers.
    - `mixing`: its layers with ratios.
    """

    serve: object
    outputs: tuple
    inputs: tuple
    weights: dict
    facts: dict
    scopes: set
    mixing: list


def _source(model, image_size, dynamic):
    if isinstance(model, (str, Path)) and Path(model, "saved_model.pb").is_file():
        serve, inputs, outputs, facts = _of_saved_model(Path(model), image_size)
        weights, named = {}, {facts.get("model", ""), *facts.get("layers", ())}
        mixing = []
    else:
        model = serving.prepare(model).model
        inputs, outputs = serving.interface(model, image_size)
        serve, weights, facts = serving.forward(model), {}, record(model)
        named = {layer.name for layer in layers_of(model)}
        mixing = list(serving.mixing_layers(model).values())
        if 4 * model.count_params() > onnx_graph.EXTERNAL:
            _check_sizes(model)
            serve, weights = _with_weights_as_inputs(model)
    inputs = tuple(_sized(tensor, dynamic) for tensor in inputs)
    return Source(serve, outputs, inputs, weights, facts, named, mixing)


def _of_saved_model(directory, image_size):
    """As `_source`, of the "serving_default" of a SavedModel."""
    _check_backend("tensorflow")
    import tensorflow as tf

    # Kept by `serve`: a signature does not keep the variables it reads.
    saved = tf.saved_model.load(str(directory))
    served = saved.signatures["serving_default"]
    inputs = []
    for name, spec in served.structured_input_signature[1].items():
        shape = list(spec.shape)
        images = image_size if image_size and len(shape) == 4 else ()
        for axis, size in zip((1, 2), images, strict=False):
            shape[axis] = shape[axis] or size
        inputs.append(keras.KerasTensor(shape, spec.dtype.name, name=name))

    def serve(*tensors):
        names = [tensor.name for tensor in inputs]
        return saved.signatures["serving_default"](
            **dict(zip(names, tensors, strict=True))
        )

    file = directory / FILE
    facts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    own = ("options", "graph_hash", "metadata")
    facts = {k: v for k, v in facts.items() if k not in own}
    return serve, inputs, tuple(served.structured_outputs), facts


def _check_sizes(model):
    for variable in model.variables:
        if 4 * math.prod(variable.shape) > onnx_graph.TENSOR:
            raise ValueError(
                "Argument `model` must have weights below 2 GB each, which is what "
                f"protobuf can hold. Received: {variable.path} of shape "
                f"{tuple(variable.shape)}"
            )


def _with_weights_as_inputs(model):
    """Because neither a graph of TensorFlow nor tf2onnx holds constants of 2 GB."""
    returned = serving.interface(model).outputs
    count = len(model.inputs)
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    split = len(model.trainable_variables)

    def serve(*tensors):
        inputs = keras.tree.pack_sequence_as(structure(model), tensors[:count])
        weights = tensors[count:]
        outputs, _ = model.stateless_call(
            weights[:split], weights[split:], inputs, training=False
        )
        return dict(zip(returned, keras.tree.flatten(outputs), strict=True))

    names = unique_all([v.path for v in variables])
    return serve, {n: v.numpy() for n, v in zip(names, variables, strict=True)}


def _sized(tensor, dynamic):
    """A tensor of the same name, open in no size that is not in `dynamic`."""
    shape = [None if "batch" in dynamic else 1, *tensor.shape[1:]]
    names = dimensions(shape)
    for axis, name in names.items():
        if name not in DIMENSIONS[1:]:
            continue
        if shape[axis] is None and name not in dynamic:
            raise ValueError(
                f"Argument `image_size` or `dynamic` must be given: the {name} of "
                f"{tensor.name!r} is not known. Received: shape={tuple(tensor.shape)}, "
                f"dynamic={tuple(dynamic)}"
            )
        if shape[axis] is not None and name in dynamic:
            raise ValueError(
                f"Argument `dynamic` must not hold {name!r}, which is fixed. "
                f"Received: dynamic={tuple(dynamic)}, shape={tuple(tensor.shape)}"
            )
    return keras.KerasTensor(shape, tensor.dtype, name=tensor.name)


def dimensions(shape):
    """Names of the dimensions of an input, by axis."""
    names = {0: "batch"}
    if len(shape) == 4:
        names.update(zip(serving.spatial_axes(shape), DIMENSIONS[1:], strict=True))
    else:
        names.update({axis: f"dim{axis}" for axis in range(1, len(shape))})
    return names


def _converted(source, opset, dynamic, image_size, layout, fp16, simplify):
    if keras.backend.backend() == "jax":
        proto = _from_jax(source, opset, layout, fp16)
    else:
        proto, calls = _from_tensorflow(source, min(opset, NATIVE), layout)
        compact(proto, calls)
    if opset > proto.opset_import[0].version:
        proto = onnx_graph.later(proto, opset)
    if simplify:
        proto = onnx_graph.simplified(proto)
    if fp16:
        proto = in_float16(proto, source.facts.get("layers", {}))
    onnx_graph.fill(proto, source.weights)
    return proto


def _from_tensorflow(source, opset, layout):
    """The graph, and in it the scopes of calls of layers with ratios."""
    import tensorflow as tf
    import tf2onnx

    specs = [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in source.inputs]
    specs += [
        tf.TensorSpec(w.shape, w.dtype, name=_argument(name))
        for name, w in source.weights.items()
    ]
    function = tf.function(source.serve, input_signature=specs, autograph=False)
    flipped = layout == "nchw"
    with scopes(source.mixing) as called:
        concrete = function.get_concrete_function()
    returned = concrete.structured_outputs
    images = [x.name for x in source.inputs if flipped and len(x.shape) == 4]
    maps = [name for name, y in returned.items() if flipped and y.shape.rank == 4]
    proto, _ = tf2onnx.convert.from_function(
        function,
        specs,
        opset=opset,
        inputs_as_nchw=images,
        outputs_as_nchw=maps,
    )
    # Tensors that are no variables, as the constants of a Normalization.
    captured = {
        placeholder.name: tensor
        for tensor, placeholder in concrete.graph.captures
        if tensor.dtype not in (tf.resource, tf.variant)
    }
    onnx_graph.fill(
        proto,
        {
            value.name: captured[name].numpy()
            for value in proto.graph.input
            for name in (value.name, f"{value.name}:0")
            if name in captured
        },
    )
    given = [value.name for value in proto.graph.input]
    if sorted(given) != sorted(spec.name for spec in specs):
        raise ValueError(
            "Argument `model` must have an ONNX form with the inputs of the model, "
            f"{[x.name for x in source.inputs]}. Received: {given}"
        )
    names = {_argument(name): name for name in source.weights}
    renamed = onnx_graph.clean(
        proto, source.facts.get("model", "model"), source.scopes, names
    )
    onnx_graph.name_dimensions(
        proto, {x.name: dimensions(x.shape) for x in source.inputs}, flipped
    )
    onnx_graph.known(proto)
    clear = list(renamed.values())
    calls = {renamed.get(scope): layer for scope, layer in called.items()}
    return proto, {s: layer for s, layer in calls.items() if clear.count(s) == 1}


def _from_jax(source, opset, layout, fp16):
    for name, value, only in (("layout", layout, "nhwc"), ("fp16", fp16, False)):
        if value != only:
            raise ValueError(
                f"Argument `{name}` must be {only!r} on the JAX backend. "
                f"Received: {name}={value!r}"
            )
    if opset not in jax_onnx.OPSETS or source.weights:
        first = jax_onnx.OPSETS[0]
        raise ValueError(
            f"Argument `opset` must be an integer from {first}, and weights must be "
            f"below 2 GB, on the JAX backend. Received: opset={opset}"
        )
    inputs = []
    for x in source.inputs:
        names = dimensions(x.shape)
        shape = [n if n is not None else names[i] for i, n in enumerate(x.shape)]
        inputs.append((x.name, shape, x.dtype))
    name = source.facts["model"]
    return jax_onnx.convert(source.serve, inputs, source.outputs, opset, name)


def _argument(path):
    return "weight_" + "".join(c if c.isalnum() else "_" for c in path)


def _check_backend(*allowed):
    if keras.backend.backend() not in allowed:
        raise RuntimeError(
            f"Export to ONNX needs a backend of {allowed}. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )


def _check_path(path, overwrite):
    if path.suffix != ".onnx":
        raise ValueError(f"Argument `path` must end in .onnx. Received: path={path}")
    files.check_free(path, overwrite, "path")
    if path.is_dir():
        raise FileExistsError(
            f"Argument `path` must be a file. Received: {path}, a folder"
        )


def _check_arguments(opset, dynamic, layout):
    if isinstance(opset, bool) or opset not in OPSETS:
        raise ValueError(
            f"Argument `opset` must be an integer from {OPSETS[0]} to {OPSETS[-1]}. "
            f"Received: opset={opset!r}"
        )
    if layout not in LAYOUTS:
        raise ValueError(
            f"Argument `layout` must be one of {LAYOUTS}. Received: layout={layout!r}"
        )
    if layout == "nchw" and keras.config.image_data_format() == "channels_first":
        raise ValueError(
            "Argument `layout` must be 'nhwc', which leaves a model as it is, for one "
            f"with its channels first. Received: layout={layout!r}"
        )
    if isinstance(dynamic, str) or not set(dynamic) <= set(DIMENSIONS):
        raise ValueError(
            f"Argument `dynamic` must hold names of {DIMENSIONS}. "
            f"Received: dynamic={dynamic!r}"
        )
