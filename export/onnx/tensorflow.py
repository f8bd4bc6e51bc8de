"""ONNX from the TensorFlow backend, through tf2onnx."""

import collections
from typing import Any

from keras_en.arguments import require

from ..calls import scopes
from ..keras_private import without_xla
from .graph import fill, in_standard_operators, set_groups
from .names import clean, name_dimensions
from .source import Source, dimensions

# tf2onnx writes opsets up to it.
LAST = 18


def convert(source: Source, opset: int, layout: str) -> tuple[Any, dict]:
    """The graph of a source, and in it the calls of layers with ratios.

    Args:
        source: `Source`.
        opset: At most `LAST`.
        layout: "nhwc" or "nchw", of rank-4 inputs and outputs.

    Returns:
        `onnx.ModelProto`; dictionary from the scope of a call to its layer.
    """
    import tensorflow as tf
    import tf2onnx

    arguments = {_argument(name): name for name in source.weights}
    specs = [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in source.inputs]
    for argument, name in arguments.items():
        weight = source.weights[name]
        specs.append(tf.TensorSpec(weight.shape, weight.dtype, name=argument))
    function = tf.function(source.serve, input_signature=specs, autograph=False)
    with scopes(source.mixing) as called, without_xla():
        traced = function.get_concrete_function()
    flipped = layout == "nchw"
    outputs = traced.structured_outputs.items()
    proto, _ = tf2onnx.convert.from_function(
        function,
        specs,
        opset=opset,
        inputs_as_nchw=[x.name for x in source.inputs if flipped and len(x.shape) == 4],
        outputs_as_nchw=[k for k, y in outputs if flipped and y.shape.rank == 4],
    )
    fill(proto, _captured(traced))
    _check_inputs(proto, specs, source)
    renamed = clean(proto, source.name, source.scopes, arguments)
    names = {x.name: dimensions(x.shape) for x in source.inputs}
    name_dimensions(proto, names, flipped)
    in_standard_operators(proto)
    set_groups(proto)
    uses = collections.Counter(renamed.values())
    calls = {renamed.get(scope): layer for scope, layer in called.items()}
    return proto, {scope: calls[scope] for scope in calls if uses[scope] == 1}


def _captured(function):
    """Tensors that are no variables, as the constants of a Normalization, by the names
    of the inputs that the converter makes of them: `node:0` or `node`."""
    return {
        name: tensor.numpy()
        for tensor, placeholder in function.graph.captures
        if tensor.dtype.name not in ("resource", "variant")
        for name in (placeholder.name, placeholder.name.removesuffix(":0"))
    }


def _check_inputs(proto, specs, source):
    names = [value.name for value in proto.graph.input]
    right = sorted(names) == sorted(spec.name for spec in specs)
    inputs = [x.name for x in source.inputs]
    what = f"have an ONNX form with the inputs of the model, {inputs}"
    require(right, "Argument `model`", what, names)


def _argument(path):
    return "weight_" + "".join(c if c.isalnum() else "_" for c in path)
