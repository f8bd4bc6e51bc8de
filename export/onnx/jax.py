"""ONNX from the JAX backend, through jax2onnx.

Tested with jax2onnx 0.17.1, three limits of which are worked around where it is said.
"""

import contextlib
import logging
from unittest import mock

OPSETS = range(13, 24)


def convert(serve, inputs, outputs, opset, name):
    """The model of a function.

    Args:
        serve: Function from tensors to a dictionary of outputs.
        inputs: For each a name, a shape whose open sizes are names, and a dtype.
        outputs: Names.
        opset: 13 to 23.
        name: Of the model.

    Returns:
        `onnx.ModelProto`.

    Raises:
        RuntimeError: jax2onnx is not installed.
        ValueError: It cannot convert the model.
    """
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

    scope = jax.export.SymbolicScope()
    tensors = []
    for _, shape, dtype in inputs:
        text = ",".join(map(str, shape))
        shape = jax.export.symbolic_shape(text, scope=scope)
        tensors.append(jax.ShapeDtypeStruct(shape, dtype))

    def flat(*given):
        found = serve(*given)
        return [found[key] for key in outputs]

    # Traced before jax2onnx puts functions of its own in place of those of jax.numpy,
    # which refuse some arguments (max with `initial`) and ignore the opset (mean).
    closed = jax.make_jaxpr(flat)(*tensors)
    try:
        with _quiet(), _symbolic_sizes(onnx_ir, jax.export.is_symbolic_dim):
            found = jax2onnx.to_onnx(
                jaxpr_as_fun(closed),
                tensors,
                opset=opset,
                return_mode="ir",
                model_name=name,
                input_names=[key for key, *_ in inputs],
                output_names=list(outputs),
            )
        with _quiet():
            _pool(onnx_ir, found.graph)
            RemoveUnusedNodesPass()(found)
            proto = onnx_ir.to_proto(found)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            "Argument `model` must be one that jax2onnx can convert. "
            f"Received: {name}: {error}"
        ) from error
    for value, aval in zip(proto.graph.output, closed.out_avals, strict=True):
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, aval.shape, strict=True):
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = str(size)
    del proto.graph.value_info[:]
    return proto


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


@contextlib.contextmanager
def _symbolic_sizes(onnx_ir, is_symbolic):
    """onnx_ir takes JAX's symbolic sizes, which have `__int__`, for integers: padding
    then fails."""
    core = onnx_ir._core
    original = core._maybe_convert_to_symbolic_dim

    def named(size):
        return original(str(size) if is_symbolic(size) else size)

    with mock.patch.object(core, "_maybe_convert_to_symbolic_dim", named):
        yield


def _pool(onnx_ir, graph):
    """MaxPool over all axes of `(1, 1, N, H, W, C)`, which onnxruntime refuses, becomes
    one over those that it moves along."""
    for node in list(graph):
        if node.op_type != "MaxPool":
            continue
        ints = {
            key: list(attribute.value)
            for key, attribute in node.attributes.items()
            if attribute.type == onnx_ir.AttributeType.INTS
        }
        rank, x = len(ints["kernel_shape"]), node.inputs[0]
        while len(x.shape) > rank and x.producer().op_type == "Unsqueeze":
            x = x.producer().inputs[0]
        (after,) = node.outputs[0].consumers()
        if len(x.shape) > rank or after.op_type != "Squeeze":
            continue
        pads = ints.pop("pads", [0] * 2 * rank)
        rows = list(zip(*ints.values(), pads[:rank], pads[rank:], strict=True))
        still = [i for i, r in enumerate(rows) if {*r[:-2]} == {1} and not any(r[-2:])]
        channels = rank - 1 if rank - 1 in still else 1
        front = [0, channels]
        moving = [i for i in range(rank) if i not in front]
        order = front + moving
        attributes = {key: [v[i] for i in moving] for key, v in ints.items()}
        attributes["pads"] = [pads[i] for i in moving]
        attributes["pads"] += [pads[rank + i] for i in moving]
        turned = onnx_ir.node("Transpose", [x], {"perm": order})
        pooled = onnx_ir.node("MaxPool", turned.outputs, attributes)
        back = onnx_ir.node(
            "Transpose", pooled.outputs, {"perm": [order.index(i) for i in range(rank)]}
        )
        out = after.outputs[0]
        for new in (turned, pooled, back):
            new.outputs[0].type = out.type
        back.outputs[0].shape = out.shape
        graph.insert_before(after, [turned, pooled, back])
        onnx_ir.convenience.replace_all_uses_with(
            out, back.outputs[0], replace_graph_outputs=True
        )
        name, out.name = out.name, None
        back.outputs[0].name = name
        graph.remove([after, node], safe=True)
