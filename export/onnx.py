"""ONNX files, through tf2onnx."""

from pathlib import Path

from .serving import OUTPUT_NAME, serving_function


def export_onnx(model, path, opset=17):
    """Writes an ONNX file: `inputs` to `outputs`, any batch size, inference mode.

    Args:
        model: A functional or Sequential model, built, with one input and one output.
        path: Path of the file, ending in `.onnx`.
        opset: ONNX opset, 9 to 18.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        FileExistsError: The file exists.
        RuntimeError: The backend is not TensorFlow.
        ValueError: `opset` or `path` is not among those allowed, or `model` has not
            one input and one output, or is not built.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"Argument `path` must end in .onnx. Received: path={path}")
    if not isinstance(opset, int) or not 9 <= opset <= 18:
        raise ValueError(
            f"Argument `opset` must be an integer from 9 to 18. Received: opset={opset}"
        )
    if path.exists():
        raise FileExistsError(f"Argument `path` exists already. Received: path={path}")
    serve, spec = serving_function(model)
    import onnx
    import tensorflow as tf
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(
        tf.function(serve, input_signature=[spec]), [spec], opset=opset
    )
    # tf2onnx invents a name for every unknown size.
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    assert [value.name for value in proto.graph.output] == [OUTPUT_NAME]
    onnx.checker.check_model(proto, full_check=True)
    partial = path.with_suffix(".onnx.partial")
    try:
        onnx.save(proto, str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
