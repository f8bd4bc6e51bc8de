"""Gate 7 of a SavedModel: TensorFlow Serving plays its warm-up requests to itself."""

from keras_en.arguments import require

from ..artefact import Artefact
from ..saved_model.warmup import FILE
from . import runners
from .cases import Call
from .checks import Outcome, Unavailable, Unequal


def played(artefact: Artefact) -> Outcome:
    """Plays every warm-up request to the graph-mode loader.

    Raises:
        RuntimeError: A request cannot be run.
        Unavailable: There is none, or tensorflow-serving-api is not installed.
        Unequal: A record is no `PredictionLog`; a request names a signature or inputs
            that are not there, or has another dtype; outputs have other shapes than
            the signature declares.
    """
    from tensorflow import TensorShape

    calls = read(artefact)
    outputs = runners.session_loader(artefact.path, calls).outputs
    for call, arrays in zip(calls, outputs, strict=True):
        for name, (_, shape) in artefact.signatures[call.signature][1].items():
            # `None` is any size, or all sizes.
            right = TensorShape(shape).is_compatible_with(arrays[name].shape)
            subject, what = f"{name} of {call.signature}", f"have the shape {shape}"
            require(right, subject, what, arrays[name].shape, Unequal)
    names = sorted({call.signature for call in calls})
    return f"{len(calls)} played, {', '.join(names)}", {"requests": len(calls)}


def read(artefact: Artefact) -> list[Call]:
    """The warm-up requests of a SavedModel; raises as `played`."""
    path = artefact.path / FILE
    if not path.is_file():
        raise Unavailable("there are no warm-up requests")
    try:
        from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
    except ImportError:
        raise Unavailable("tensorflow-serving-api is not installed") from None
    import tensorflow as tf

    calls: list[Call] = []
    for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = PredictionLog.FromString(data)
        kind = log.WhichOneof("log_type")
        if kind is None:
            raise Unequal(f"request {len(calls) + 1} is no PredictionLog")
        if kind != "predict_log":
            raise Unavailable(f"warm-up requests of {kind} are not played here")
        calls.append(_call(log.predict_log.request, artefact))
    if not calls:
        raise Unavailable("there are no warm-up requests")
    return calls


def _call(request, artefact):
    import tensorflow as tf

    name = request.model_spec.signature_name or runners.DEFAULT
    if name not in artefact.signatures:
        raise Unequal(
            f"signatures are {sorted(artefact.signatures)}. Received: {name!r}"
        )
    inputs, _ = artefact.signatures[name]
    wanted = {k: dtype for k, (dtype, _) in inputs.items()}
    received = {k: tf.as_dtype(v.dtype).name for k, v in request.inputs.items()}
    if received != wanted:
        raise Unequal(f"inputs of {name} must be {wanted}. Received: {received}")
    return Call(name, {k: tf.make_ndarray(v) for k, v in request.inputs.items()})
