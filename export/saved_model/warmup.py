"""Requests that TensorFlow Serving plays to itself before it serves a version."""

from pathlib import Path

import numpy as np

from keras_en import arguments

from ..serving import BYTES

FILE = "assets.extra/tf_serving_warmup_requests"


def check_installed() -> None:
    """Raises `RuntimeError` if the protos of TensorFlow Serving are missing."""
    subject = "Writing warm-up requests (not with warmup_requests=False, --no-warmup)"
    arguments.check_installed(subject, ["tensorflow_serving"], "export")


def write(path: Path, name: str, requests: list) -> None:
    """Writes requests, as TensorFlow Serving reads them.

    Args:
        path: Path of the file.
        name: Of the model, which TensorFlow Serving does not compare with its own.
        requests: List of pairs: a signature's name, and a dictionary of NumPy arrays
            by the names of its inputs.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, array in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(
                prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()
            )


def zeros(specs: list, batch: int = 1, size: int = 64) -> dict:
    """An array of zeros for each `tf.TensorSpec`, `size` where one is unknown; for
    strings empty ones, or encoded images."""
    arrays = {}
    for spec in specs:
        shape = [batch, *(n or size for n in spec.shape[1:])]
        if spec.name == BYTES:
            arrays[spec.name] = images(batch)
        elif spec.dtype.name == "string":
            arrays[spec.name] = np.full(shape, b"", object)
        else:
            arrays[spec.name] = np.zeros(shape, spec.dtype.as_numpy_dtype)
    return arrays


def images(count: int, size: tuple[int, int] = (48, 40), seed: int = 0) -> np.ndarray:
    """Encoded images, JPEG and PNG by turns: an array `(count,)` of bytes."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    encoded = np.empty(count, object)
    for i in range(count):
        pixels = rng.integers(0, 256, (*size, 3)).astype("uint8")
        encode = tf.io.encode_png if i % 2 else tf.io.encode_jpeg
        encoded[i] = encode(pixels).numpy()
    return encoded
