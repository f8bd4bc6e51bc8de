"""Gate 7 of a SavedModel: its warm-up requests, and the messages of a client."""

import shutil
import sys
from concurrent import futures

import numpy as np
import pytest

from keras_en import export
from keras_en.export.parity import runners, warmup_requests
from keras_en.export.parity.cases import Call
from keras_en.export.parity.checks import NOT_RUN, Unavailable, Unequal, check
from keras_en.export.saved_model import warmup

pytestmark = pytest.mark.tensorflow

MESSAGES = "tensorflow_serving.apis.prediction_log_pb2"
IMAGE = np.zeros((1, 8, 8, 3), "float32")


@pytest.fixture
def with_requests(saved_model, tmp_path):
    """A function that gives a copy of the SavedModel other warm-up requests."""

    def copied(*requests):
        path = shutil.copytree(saved_model, tmp_path / "copy", dirs_exist_ok=True)
        warmup.write(path / warmup.FILE, "model", requests)
        return export.inspect(path)

    return copied


def test_by_hand(with_requests):
    artefact = with_requests(("serving_default", {"inputs": IMAGE}))
    (call,) = warmup_requests.read(artefact)
    assert call.signature == "serving_default"
    np.testing.assert_array_equal(call.inputs["inputs"], IMAGE)


def test_what_an_export_writes_is_played(saved_model):
    text, measured = warmup_requests.played(export.inspect(saved_model))
    assert text == "3 played, ratios, serving_bytes, serving_default"
    assert measured == {"requests": 3}


@pytest.mark.parametrize(
    ("signature", "inputs", "error", "words"),
    [
        ("logits", {"inputs": IMAGE}, Unequal, "signatures are .* Received: 'logits'"),
        ("ratios", {"image": IMAGE}, Unequal, "must be {'inputs': 'float32'}"),
        ("ratios", {}, Unequal, "must be {'inputs': 'float32'}. Received: {}"),
        ("", {"inputs": IMAGE.astype("float64")}, Unequal, "serving_default must be"),
        ("ratios", {"inputs": IMAGE[:, :7]}, RuntimeError, "shape"),
        (
            "serving_bytes",
            {"image_bytes": np.array([b"no image"], object)},
            RuntimeError,
            "[Uu]nknown image",
        ),
    ],
)
def test_requests_that_cannot_be_served_fail(
    with_requests, signature, inputs, error, words
):
    artefact = with_requests(("ratios", {"inputs": IMAGE}), (signature, inputs))
    with pytest.raises(error, match=words):
        warmup_requests.played(artefact)


def test_a_record_that_is_no_request_fails(with_requests):
    import tensorflow as tf

    artefact = with_requests()
    for data, words in ((b"", "1 is no PredictionLog"), (b"text", "pars")):
        with tf.io.TFRecordWriter(str(artefact.path / warmup.FILE)) as writer:
            writer.write(data)
        with pytest.raises(Exception, match=words):
            warmup_requests.played(artefact)


def test_outputs_of_other_shapes_fail(with_requests, monkeypatch):
    artefact = with_requests(("serving_default", {"inputs": IMAGE}))
    outputs = {"outputs": np.zeros((1, 9))}
    session = runners.Session([outputs], {})
    monkeypatch.setattr(runners, "session_loader", lambda *_: session)
    with pytest.raises(Unequal, match=r"shape \[None, 10\]. Received: \(1, 9\)"):
        warmup_requests.played(artefact)


def test_where_there_is_nothing_to_play_it_is_not_run(with_requests, monkeypatch):
    artefact = with_requests()
    result = check(7, "warm-up requests", warmup_requests.played, artefact)
    assert (result.status, result.detail) == (NOT_RUN, "there are no warm-up requests")
    monkeypatch.setitem(sys.modules, MESSAGES, None)
    with pytest.raises(Unavailable, match="tensorflow-serving-api is not installed"):
        warmup_requests.played(artefact)
    (artefact.path / warmup.FILE).unlink()
    with pytest.raises(Unavailable, match="there are no warm-up requests"):
        warmup_requests.played(artefact)


def test_the_messages_of_a_client(saved_model):
    """A request and its answer over gRPC; the loader stands for the server."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc as service

    answers = []

    class Server(service.PredictionServiceServicer):
        def Predict(self, request, context):
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            call = Call(request.model_spec.signature_name, inputs)
            (outputs,) = runners.session_loader(saved_model, [call]).outputs
            answers.append(outputs)
            response = predict_pb2.PredictResponse()
            for name, array in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
            return response

    images = warmup.images(2)
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "serving_bytes"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(images))
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service.add_PredictionServiceServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=300)
    server.stop(None)
    ((name, expected),) = answers[0].items()
    assert expected.shape == (2, 10)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs[name]), expected)
