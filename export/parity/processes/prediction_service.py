"""`python prediction_service.py DIRECTORY`: gRPC with the protos of TensorFlow Serving.

Serves `Predict` of every signature of one version on a free port of 127.0.0.1, which it
prints first; ends when its standard input does. It stands in for TensorFlow Serving
where that cannot run: the loader and the messages are the same, the server is not.
"""

import sys
from concurrent import futures

# gRPC's own limit is 4 MB.
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def main(directory):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory)

    class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            name = request.model_spec.signature_name or "serving_default"
            if name not in loaded.signature_def:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no {name}")
            called = loaded.signature_def[name]
            if set(request.inputs) != set(called.inputs):
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"inputs must be {sorted(called.inputs)}. "
                    f"Received: {sorted(request.inputs)}",
                )
            fed = {
                called.inputs[k].name: tf.make_ndarray(v)
                for k, v in request.inputs.items()
            }
            try:
                found = session.run({k: v.name for k, v in called.outputs.items()}, fed)
            except tf.errors.OpError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            response = predict_pb2.PredictResponse()
            response.model_spec.CopyFrom(request.model_spec)
            for key, value in found.items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            return response

    server = grpc.server(futures.ThreadPoolExecutor(2), options=OPTIONS)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(), server
    )
    print("port", server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    # An artefact that needs them must fail here.
    sys.modules["keras"] = sys.modules["keras_en"] = None
    main(*sys.argv[1:])
