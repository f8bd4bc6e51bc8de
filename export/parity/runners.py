"""Runs an artefact as its servers do: in other processes, by other runtimes."""

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PROCESSES = Path(__file__).parent / "processes"
DEFAULT = "serving_default"


class Unavailable(Exception):
    """What a runner needs is not installed here."""


def run_saved_model(directory, inputs, signature=DEFAULT):
    """Outputs of a signature through the graph-mode loader, in a process that can
    import neither keras nor keras_en.

    `tf.compat.v1.saved_model.load` restores variables by name from the graph alone,
    as TensorFlow Serving does: what Python's own loader forgives, it does not.

    Args:
        directory: Path of one version, the folder that holds `saved_model.pb`.
        inputs: NumPy array, or a dictionary of arrays by the names of the inputs.
        signature: Name of the signature.

    Returns:
        NumPy array, or a dictionary of arrays if there are several outputs.

    Raises:
        RuntimeError: It cannot be loaded or run, or a variable changed.
        ValueError: There is no such signature.
    """
    from ..saved_model import graph as graphs

    signatures = graphs.read(directory).signature_def
    known = sorted(name for name in signatures if not name.startswith("__"))
    if signature not in known:
        raise ValueError(
            f"Argument `signature` must be one of {known}. "
            f"Received: signature={signature!r}"
        )
    if not isinstance(inputs, dict):
        (name,) = signatures[signature].inputs
        inputs = {name: inputs}
    (outputs,) = session_loader(directory, [(signature, inputs)])
    return _plain(outputs)


def run_onnx(path, inputs):
    """Outputs of an ONNX file under onnxruntime on the CPU.

    Args:
        path: Path of the file.
        inputs: NumPy array, or a dictionary of arrays by the names of the inputs.

    Returns:
        NumPy array, or a dictionary of arrays if there are several outputs.
    """
    session = _onnx_session(path)
    if not isinstance(inputs, dict):
        (given,) = session.get_inputs()
        inputs = {given.name: inputs}
    return _plain(_run_session(session, inputs))


def onnxruntime(path, calls):
    """Outputs of each of `calls`, pairs of a signature and a dictionary of arrays."""
    session = _onnx_session(path)
    return [_run_session(session, inputs) for _, inputs in calls]


def _onnx_session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _run_session(session, inputs):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def openvino(path, calls):
    """As `onnxruntime`, by OpenVINO."""
    import onnx

    # It would send a message to its makers, from a fork of this process.
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        import openvino as runtime
    except ImportError:
        raise Unavailable("openvino is not installed") from None
    # It would compute in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = runtime.Core().compile_model(str(path), "CPU", settings)
    # By place: it may prefer the name of a tensor that it took for the same.
    outputs = onnx.load(str(path), load_external_data=False).graph.output
    names = [value.name for value in outputs]
    found = []
    for _, inputs in calls:
        values = compiled(inputs)
        found.append({name: np.array(values[i]) for i, name in enumerate(names)})
    return found


def python_loader(directory, calls):
    """Outputs of each of `calls` by `tf.saved_model.load`, without Keras."""
    return _in_process("python_loader.py", directory, calls)


def session_loader(directory, calls, digests=None):
    """Outputs of each of `calls` by the graph-mode loader, without Keras. Fails if a
    variable changes. `digests`, a dictionary, gets the SHA-256 of every variable."""
    return _in_process("session_loader.py", directory, calls, digests)


def _in_process(script, directory, calls, digests=None):
    with tempfile.TemporaryDirectory() as work:
        cases, outputs = Path(work, "cases"), Path(work, "outputs")
        cases.mkdir(), outputs.mkdir()
        names = [f"{i:05d}.{signature}.npz" for i, (signature, _) in enumerate(calls)]
        for name, (_, inputs) in zip(names, calls, strict=True):
            np.savez(cases / name, **inputs)
        _run([sys.executable, PROCESSES / script, directory, cases, outputs])
        if digests is not None:
            digests.update(json.loads((outputs / "variables.json").read_text()))
        return [dict(np.load(outputs / name)) for name in names]


def c_loader(directory, calls):
    """Outputs of each of `calls` of "serving_default" by TensorFlow's C library, with
    the loader that TensorFlow Serving uses."""
    from tensorflow import as_dtype

    from ..saved_model import graph as graphs

    signature = graphs.read(directory).signature_def[DEFAULT]
    inputs, outputs = dict(signature.inputs), dict(signature.outputs)
    with tempfile.TemporaryDirectory() as work:
        given, returned = Path(work, "in"), Path(work, "out")
        with given.open("wb") as file:
            for _, arrays in calls:
                for name, tensor in inputs.items():
                    array = arrays[name]
                    head = [tensor.dtype, array.ndim]
                    file.write(np.array(head, "int32").tobytes())
                    file.write(
                        np.array([*array.shape, array.nbytes], "int64").tobytes()
                    )
                    file.write(np.ascontiguousarray(array).tobytes())
        fed = [tensor.name for tensor in inputs.values()]
        fetched = [tensor.name for tensor in outputs.values()]
        _run([_compiled(), directory, given, returned, *fed, "--", *fetched])
        found = []
        with returned.open("rb") as file:
            for _ in calls:
                found.append({name: _read(file, as_dtype) for name in outputs})
        return found


def _read(file, as_dtype):
    dtype, rank = np.frombuffer(file.read(8), "int32")
    *shape, size = np.frombuffer(file.read(8 * (rank + 1)), "int64")
    kind = as_dtype(int(dtype)).as_numpy_dtype
    return np.frombuffer(file.read(int(size)), kind).reshape([int(n) for n in shape])


@functools.cache
def _compiled():
    """The path of `loader.c`, compiled for this process."""
    import atexit
    import shutil

    import tensorflow as tf

    compiler, library = shutil.which("gcc"), Path(tf.sysconfig.get_lib())
    if compiler is None:
        raise Unavailable("gcc is not installed")
    names = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
    if not all((library / name).is_file() for name in names):
        raise Unavailable("this build of TensorFlow has no C library for Linux")
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = Path(folder, "loader")
    command = [compiler, "-O1", "-Wall", "-I", tf.sysconfig.get_include()]
    command += [PROCESSES / "loader.c", "-o", program, f"-Wl,-rpath,{library}"]
    _run([*command, f"-L{library}", *(f"-l:{name}" for name in names)])
    return program


def prediction_service(directory, calls):
    """Outputs of each of `calls` over gRPC, with the messages of TensorFlow Serving."""
    try:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError:
        raise Unavailable("tensorflow-serving-api is not installed") from None

    from .processes.prediction_service import OPTIONS

    found = []
    with (
        _service(directory) as address,
        grpc.insecure_channel(address, options=OPTIONS) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for signature, inputs in calls:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "model"
            request.model_spec.signature_name = signature
            for name, array in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            try:
                response = stub.Predict(request, timeout=300)
            except grpc.RpcError as error:
                raise RuntimeError(error.details()) from error
            found.append({k: tf.make_ndarray(v) for k, v in response.outputs.items()})
    return found


@contextlib.contextmanager
def _service(directory):
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, PROCESSES / "prediction_service.py", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            line = process.stdout.readline()
            if not line.startswith("port "):
                process.wait()
                errors.seek(0)
                raise RuntimeError(_reason(errors.read()))
            yield f"127.0.0.1:{int(line.split()[1])}"
        finally:
            process.stdin.close()
            process.stdout.close()
            process.wait()


def _run(command):
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(_reason(done.stderr) or f"exit code {done.returncode}")


def _reason(text):
    """Why a process failed: what it said from its last line with an error on; of an
    error of TensorFlow what stands between two traces."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [i for i, n in enumerate(lines) if "Error" in n.split(" ")[0]]
    found = lines[said[-1] if said else -1 :]
    nodes = [i for i, n in enumerate(found) if n.startswith("Node: ")]
    found = found[nodes[0] + 1 if nodes else 0 :]
    ends = [i for i, n in enumerate(found) if n.startswith("[[{{")]
    return " ".join(found[: ends[0]] if ends else found)[:600]


def _plain(outputs):
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs
