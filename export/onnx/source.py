"""What is converted to ONNX: a model, or a signature of a SavedModel."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_en.arguments import check_backend, fault, require
from keras_en.keras_private import layers_of
from keras_en.text import unique_all

from .. import facts, serving
from ..precision import structure
from . import graph as onnx_graph

DIMENSIONS = ("batch", "height", "width")


class Source(NamedTuple):
    """What is converted.

    - `serve`: function from tensors to a dictionary of outputs.
    - `outputs`: names of these.
    - `inputs`: tuple of `keras.KerasTensor`, in which `None` is a dynamic size.
    - `facts`: see `facts_of`.
    - `scopes`: names of the model and of its layers.
    - `mixing`: its layers with ratios.
    - `weights`: dictionary of those that do not fit into a graph, by name; `serve`
      takes them behind the inputs.
    """

    serve: Callable
    outputs: tuple
    inputs: tuple
    facts: dict
    scopes: set
    mixing: list
    weights: dict

    @property
    def name(self) -> str:
        """That of the model."""
        return self.facts.get("model", "model")


def source_of(model: Any, image_size: Any, dynamic: Any) -> Source:
    """The `Source` of a model, or of the path of a SavedModel's version; arguments as
    in `export_onnx`.

    Raises:
        ValueError: A size is not known, or a weight is too large.
    """
    if isinstance(model, (str, Path)) and Path(model, "saved_model.pb").is_file():
        source = _of_saved_model(Path(model), image_size)
    else:
        source = _of_model(serving.prepare(model).model, image_size)
    return source._replace(inputs=tuple(_sized(x, dynamic) for x in source.inputs))


def dimensions(shape: Any) -> dict:
    """Names of the dimensions of an input, by axis."""
    names = {0: "batch"}
    if len(shape) == 4:
        names.update(zip(serving.spatial_axes(shape), DIMENSIONS[1:], strict=True))
    else:
        names.update({axis: f"dim{axis}" for axis in range(1, len(shape))})
    return names


def _of_model(model, image_size):
    inputs, outputs = serving.interface(model, image_size)
    serve, weights = serving.forward(model), {}
    if 4 * model.count_params() > onnx_graph.EXTERNAL:
        serve, weights = _with_weights_as_inputs(model, outputs)
    return Source(
        serve,
        outputs,
        inputs,
        facts.facts_of(model),
        {layer.name for layer in layers_of(model)},
        list(serving.mixing_layers(model).values()),
        weights,
    )


def _with_weights_as_inputs(model, returned):
    """Because neither a graph of TensorFlow nor tf2onnx holds constants of 2 GB."""
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    count, split = len(model.inputs), len(model.trainable_variables)
    for variable in variables:
        if 4 * math.prod(variable.shape) > onnx_graph.TENSOR:
            what = "have weights below 2 GB each, which is what protobuf can hold"
            received = f"{variable.path} of shape {tuple(variable.shape)}"
            raise fault("Argument `model`", what, received)

    def serve(*tensors):
        inputs = keras.tree.pack_sequence_as(structure(model), tensors[:count])
        weights = tensors[count:]
        outputs, _ = model.stateless_call(
            weights[:split], weights[split:], inputs, training=False
        )
        return dict(zip(returned, keras.tree.flatten(outputs), strict=True))

    names = unique_all([v.path for v in variables])
    return serve, {n: v.numpy() for n, v in zip(names, variables, strict=True)}


def _of_saved_model(directory, image_size):
    """Of the "serving_default" of a version."""
    check_backend("A SavedModel can be converted on the TensorFlow backend only")
    import tensorflow as tf

    # Kept by `serve`: a signature does not keep the variables it reads.
    saved = tf.saved_model.load(str(directory))
    signature = saved.signatures["serving_default"]
    specs, inputs = signature.structured_input_signature[1], []
    for name, spec in specs.items():
        shape = list(spec.shape)
        if image_size and len(shape) == 4:
            shape[1:3] = (a or b for a, b in zip(shape[1:3], image_size, strict=True))
        inputs.append(keras.KerasTensor(shape, spec.dtype.name, name=name))

    def serve(*tensors):
        named = dict(zip(specs, tensors, strict=True))
        return saved.signatures["serving_default"](**named)

    own = ("options", "graph_hash", "metadata")
    remaining = {k: v for k, v in facts.read(directory).items() if k not in own}
    scopes = {remaining.get("model", ""), *remaining.get("layers", ())}
    outputs = tuple(signature.structured_outputs)
    return Source(serve, outputs, tuple(inputs), remaining, scopes, [], {})


def _sized(tensor, dynamic):
    """A tensor of the same name, open in no size that is not in `dynamic`."""
    shape = [None if "batch" in dynamic else 1, *tensor.shape[1:]]
    for axis, name in dimensions(shape).items():
        if name not in DIMENSIONS[1:]:
            continue
        size, opened = f"shape={tuple(tensor.shape)}", f"dynamic={tuple(dynamic)}"
        fixed, wanted = shape[axis] is not None, name in dynamic
        subject = "Argument `image_size` or `dynamic`"
        what = f"be given: the {name} of {tensor.name!r} is not known"
        require(fixed or wanted, subject, what, f"{size}, {opened}")
        subject, what = "Argument `dynamic`", f"not hold {name!r}, which is fixed"
        require(not (fixed and wanted), subject, what, f"{opened}, {size}")
    return keras.KerasTensor(shape, tensor.dtype, name=tensor.name)
