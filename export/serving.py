"""The inference function that every export holds."""

import keras

INPUT_NAME = "inputs"
OUTPUT_NAME = "outputs"


def serving_function(model):
    """`model` in inference mode, as a function with a named output.

    Args:
        model: A functional or Sequential model, built, with one input and one output.

    Returns:
        A function from a tensor to `{"outputs": tensor}`, and its
        `tf.TensorSpec`, named "inputs", in the model's input shape but of any batch
        size, whatever size the model was built with.

    Raises:
        RuntimeError: The backend is not TensorFlow.
        ValueError: `model` has not one input and one output, or is not built.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Export needs the TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    import tensorflow as tf

    inputs = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            "Argument `model` must be a functional or Sequential model, built, with "
            "one input and one output. "
            f"Received: model={model!r} with {len(inputs)} inputs and {len(outputs)} "
            "outputs"
        )
    shape = (None, *inputs[0].shape[1:])
    spec = tf.TensorSpec(shape, inputs[0].dtype, name=INPUT_NAME)

    def serve(x):
        (output,) = keras.tree.flatten(model(x, training=False))
        return {OUTPUT_NAME: output}

    return serve, spec
