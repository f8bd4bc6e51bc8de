"""ONNX from the JAX backend, through jax2onnx.

Tested with jax2onnx 0.17.1, three limits of which are worked around where it is said.
No other file touches a private name of onnx_ir, which jax2onnx is built on; here it is
`_core._maybe_convert_to_symbolic_dim`, for padding of open sizes.
"""

import contextlib
import logging
from typing import Any
from unittest import mock

from keras_en.arguments import check, refused

from .source import Source, dimensions

OPSETS = range(13, 24)


def convert(source: Source, opset: int, layout: str, fp16: bool) -> Any:
    """The graph of a source.

    Args:
        source: `Source`.
        opset: One of `OPSETS`.
        layout, fp16: "nhwc" and `False`; others cannot be had.

    Returns:
        `onnx.ModelProto`.

    Raises:
        RuntimeError: jax2onnx is not installed.
        ValueError: It cannot convert the model, or not so.
    """
    _check_options(source, opset, layout, fp16)
    try:
        import jax2onnx
        import onnx_ir
        from onnx_ir.passes.common import RemoveUnusedNodesPass
    except ImportError:
        raise RuntimeError(
            "Export to ONNX on the JAX backend needs jax2onnx: pip install jax2onnx"
        ) from None
    import jax
    from jax.extend.core import jaxpr_as_fun

    tensors = _tensors(source)
    # Traced before jax2onnx puts functions of its own in place of those of jax.numpy,
    # which refuse some arguments (max with `initial`) and ignore the opset (mean), and
    # for a CPU: the layer's kernels for GPUs have no ONNX form.
    with jax.default_device(jax.devices("cpu")[0]):
        traced = jax.make_jaxpr(lambda *x: list(source.serve(*x).values()))(*tensors)
    try:
        with _quiet(), _symbolic_sizes(onnx_ir, jax.export.is_symbolic_dim):
            model = jax2onnx.to_onnx(
                jaxpr_as_fun(traced),
                tensors,
                opset=opset,
                return_mode="ir",
                model_name=source.name,
                input_names=[x.name for x in source.inputs],
                output_names=list(source.outputs),
            )
            _move_pooling(onnx_ir, model.graph)
            RemoveUnusedNodesPass()(model)
            proto = onnx_ir.to_proto(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        allowed = "one that jax2onnx can convert"
        raise refused("model", allowed, f"{source.name}: {error}") from error
    _name_sizes(proto, traced.out_avals)
    return proto


def _check_options(source, opset, layout, fp16):
    here = "on the JAX backend"
    check(layout == "nhwc", "layout", f"'nhwc' {here}", layout)
    check(not fp16, "fp16", f"False {here}", fp16)
    check(opset in OPSETS, "opset", f"an integer from {OPSETS[0]} {here}", opset)
    allowed = f"one whose weights are below 2 GB {here}"
    check(not source.weights, "model", allowed, source.name)


def _tensors(source):
    """The inputs of a source as JAX traces them; open sizes have names."""
    import jax

    scope = jax.export.SymbolicScope()
    tensors = []
    for x in source.inputs:
        names = dimensions(x.shape)
        sizes = [names[i] if n is None else n for i, n in enumerate(x.shape)]
        text = ",".join(map(str, sizes))
        shape = jax.export.symbolic_shape(text, scope=scope)
        tensors.append(jax.ShapeDtypeStruct(shape, x.dtype))
    return tensors


def _name_sizes(proto, outputs):
    for value, output in zip(proto.graph.output, outputs, strict=True):
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, output.shape, strict=True):
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = str(size)
    del proto.graph.value_info[:]


@contextlib.contextmanager
def _quiet():
    """Without a warning for each size whose type it does not know."""
    log = logging.getLogger("onnx_ir.serde")
    level = log.level
    log.setLevel("ERROR")
    try:
        yield
    finally:
        log.setLevel(level)


def _symbolic_sizes(onnx_ir, is_symbolic):
    """A context: onnx_ir takes JAX's symbolic sizes, which have `__int__`, for
    integers, and padding then fails."""
    core = onnx_ir._core
    original = core._maybe_convert_to_symbolic_dim

    def named(size):
        return original(str(size) if is_symbolic(size) else size)

    return mock.patch.object(core, "_maybe_convert_to_symbolic_dim", named)


def _move_pooling(ir, graph):
    """MaxPool over all axes of `(1, 1, N, H, W, C)`, which onnxruntime refuses, becomes
    one of `(N, C, H, W)` over those that it moves along."""
    for node in [node for node in graph if node.op_type == "MaxPool"]:
        window = {
            key: list(attribute.value)
            for key, attribute in node.attributes.items()
            if attribute.type == ir.AttributeType.INTS
        }
        rank, x = len(window["kernel_shape"]), node.inputs[0]
        while len(x.shape) > rank and x.producer().op_type == "Unsqueeze":
            x = x.producer().inputs[0]
        (squeeze,) = node.outputs[0].consumers()
        if len(x.shape) == rank and squeeze.op_type == "Squeeze":
            order, attributes = _channels_second(window, rank)
            back = [order.index(axis) for axis in range(rank)]
            turned = ir.node("Transpose", [x], {"perm": order})
            pooled = ir.node("MaxPool", turned.outputs, attributes)
            result = ir.node("Transpose", pooled.outputs, {"perm": back})
            _put(ir, graph, [turned, pooled, result], squeeze)
            graph.remove([squeeze, node], safe=True)


def _channels_second(window, rank):
    """The order of axes (N, C, others), and what a window is along the others."""
    pads = window.pop("pads", [0] * 2 * rank)
    still = {values[-1] for values in window.values()} == {1}
    still = still and not pads[rank - 1] and not pads[-1]
    channels = rank - 1 if still else 1
    others = [axis for axis in range(1, rank) if axis != channels]
    attributes = {key: [v[axis] for axis in others] for key, v in window.items()}
    attributes["pads"] = [pads[axis + end] for end in (0, rank) for axis in others]
    return [0, channels, *others], attributes


def _put(ir, graph, nodes, old):
    """Puts a chain of nodes in place of what `old` computes."""
    result, replaced = nodes[-1].outputs[0], old.outputs[0]
    for node in nodes:
        node.outputs[0].type = replaced.type
    result.shape = replaced.shape
    graph.insert_before(old, nodes)
    ir.convenience.replace_all_uses_with(replaced, result, replace_graph_outputs=True)
    result.name, replaced.name = replaced.name, None
