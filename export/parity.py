"""Runs an exported artefact as its servers do."""


def run_saved_model(directory, inputs):
    """Outputs of `serving_default` through the graph-mode loader.

    `tf.compat.v1.saved_model.load` restores variables by name from the graph alone,
    as TensorFlow Serving does: what Python's own loader forgives, it does not.

    Args:
        directory: Path of one version, the folder that holds `saved_model.pb`.
        inputs: NumPy array.

    Returns:
        NumPy array.
    """
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        model = _load(session, str(directory))
        signature = model.signature_def["serving_default"]
        (fed,) = signature.inputs.values()
        (fetched,) = signature.outputs.values()
        return session.run(fetched.name, {fed.name: inputs})


def _load(session, directory):
    import tensorflow as tf

    # It warns that it is deprecated; what replaces it is Python's forgiving loader.
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        return tf.compat.v1.saved_model.load(session, ["serve"], directory)
    finally:
        logger.setLevel(level)


def run_onnx(path, inputs):
    """Outputs of an ONNX file under onnxruntime on the CPU.

    Args:
        path: Path of the file.
        inputs: NumPy array.

    Returns:
        NumPy array.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    (fed,) = session.get_inputs()
    (output,) = session.run(None, {fed.name: inputs})
    return output
