"""Runs an artefact as its servers do: in other processes, by other runtimes."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_en import files
from keras_en.arguments import check, check_installed

from ..saved_model import graph as graphs
from .cases import Arrays, Call
from .checks import Unavailable, VariablesChanged
from .processes.process import CANNOT_WRITE

PROCESSES = Path(__file__).parent / "processes"
DEFAULT = "serving_default"
# What OpenVINO says of operators that it does not have.
UNSUPPORTED = ("OpConversionFailure", "NotImplementedFailure")
# Seconds that a process, or onnxruntime, may take for all that it is asked at once:
# what hangs must not hang the comparison.
LIMIT = 600
AnyPath = str | os.PathLike[str]


def run_saved_model(
    directory: str | os.PathLike[str],
    inputs: np.ndarray | Arrays,
    signature: str = DEFAULT,
) -> np.ndarray | Arrays:
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

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_en import export
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export.export_saved_model(model, folder)
    ...     outputs = export.run_saved_model(path, np.array([[-1.0, 2.0]], "float32"))
    >>> outputs.tolist()
    [[0.0, 2.0]]
    """
    check_installed("Running a SavedModel", ["tensorflow"])
    signatures = graphs.read(directory).signature_def
    names = sorted(name for name in signatures if not name.startswith("__"))
    check(signature in names, "signature", f"one of {names}", signature)
    if not isinstance(inputs, dict):
        (name,) = signatures[signature].inputs
        inputs = {name: inputs}
    return _plain(*session_loader(directory, [Call(signature, inputs)]).outputs)


def run_onnx(
    path: str | os.PathLike[str], inputs: np.ndarray | Arrays
) -> np.ndarray | Arrays:
    """Outputs of an ONNX file under onnxruntime on the CPU.

    Args:
        path: Path of the file.
        inputs: NumPy array, or a dictionary of arrays by the names of the inputs.

    Returns:
        NumPy array, or a dictionary of arrays if there are several outputs.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_en import export
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export.export_onnx(model, f"{folder}/model.onnx")
    ...     outputs = export.run_onnx(path, np.array([[-1.0, 2.0]], "float32"))
    >>> outputs.tolist()
    [[0.0, 2.0]]
    """
    session = _onnx_session(path)
    if not isinstance(inputs, dict):
        (only,) = session.get_inputs()
        inputs = {only.name: inputs}
    return _plain(_run_session(session, inputs))


def onnxruntime(path: Path, calls: Sequence[Call]) -> list[Arrays]:
    """Outputs of each of `calls` by onnxruntime on the CPU."""
    session = _onnx_session(path)
    with _ending() as options:
        return [_run_session(session, call.inputs, options) for call in calls]


def openvino(path: Path, calls: Sequence[Call]) -> list[Arrays]:
    """Outputs of each of `calls` by OpenVINO."""
    import onnx

    # It would send a message to its makers, from a fork of this process.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino as runtime
    except ImportError:
        raise Unavailable("openvino is not installed") from None
    # It would compute in bfloat16 where the processor can.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled = runtime.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        # Its one class. onnxruntime and the checker judge the file; OpenVINO does not
        # have every operator in every form.
        if not any(reason in str(error) for reason in UNSUPPORTED):
            raise
        raise Unavailable(f"OpenVINO cannot read it: {error}") from None
    # By place: it may prefer the name of a tensor that it took for the same.
    outputs = onnx.load(str(path), load_external_data=False).graph.output
    request, results = compiled.create_infer_request(), []
    for call in calls:
        request.start_async(call.inputs)
        if not request.wait_for(LIMIT * 1000):
            request.cancel()
            raise _no_answer()
        values = request.results
        results.append({o.name: np.array(values[i]) for i, o in enumerate(outputs)})
    return results


def python_loader(directory: Path, calls: Sequence[Call]) -> list[Arrays]:
    """Outputs of each of `calls` by `tf.saved_model.load`, without Keras."""
    return _loaded("python_loader.py", directory, calls)[0]


class Session(NamedTuple):
    """What the graph-mode loader returns.

    - `outputs`: of each call.
    - `digests`: the SHA-256 of every variable by its name.
    """

    outputs: list[Arrays]
    digests: dict[str, str]


def session_loader(directory: AnyPath, calls: Sequence[Call]) -> Session:
    """Runs `calls` by the graph-mode loader, without Keras.

    Raises:
        RuntimeError: It cannot be loaded or run.
        VariablesChanged: By the calls.
    """
    outputs, variables = _loaded("session_loader.py", directory, calls)
    if variables["changed"]:
        raise VariablesChanged(
            f"variables changed while serving: {variables['changed'][:5]}"
        )
    return Session(outputs, variables["digests"])


def c_loader(directory: Path, calls: Sequence[Call]) -> list[Arrays]:
    """Outputs of each of `calls` of "serving_default" by TensorFlow's C library, with
    the loader that TensorFlow Serving uses."""
    signature = graphs.read(directory).signature_def[DEFAULT]
    inputs, outputs = dict(signature.inputs), dict(signature.outputs)
    if any(array.dtype == object for call in calls for array in call.inputs.values()):
        raise Unavailable("the C program reads no text")
    with files.temporary() as work:
        asked, answered = work / "in", work / "out"
        with asked.open("wb") as file:
            for call in calls:
                for name, tensor in inputs.items():
                    file.write(_bytes(call.inputs[name], tensor.dtype))
        fed = [tensor.name for tensor in inputs.values()]
        fetched = [tensor.name for tensor in outputs.values()]
        program = _c_program(tempfile.gettempdir())
        run_process([program, directory, asked, answered, *fed, "--", *fetched])
        with answered.open("rb") as file:
            return [{name: _array(file) for name in outputs} for _ in calls]


def run_process(command: Sequence[object]) -> None:
    """Runs a program, which ends when this process does: its standard input ends then.

    Raises:
        keras_en.files.CannotWrite: It says that it cannot write.
        RuntimeError: It fails, with what it says, or does not end in time.
    """
    words = [str(word) for word in command]
    # Only this process has the other end, and writes nothing.
    stdin, ours = os.pipe()
    # A file beyond the limits of this process stays an error, and no signal.
    settings: dict[str, Any] = {"text": True, "errors": "replace", "timeout": LIMIT}
    settings |= {"restore_signals": False, "stdin": stdin}
    try:
        done = subprocess.run(words, capture_output=True, **settings)
    except subprocess.TimeoutExpired:
        raise _no_answer() from None
    finally:
        os.close(stdin)
        os.close(ours)
    error = _reason(done.stderr) or f"exit code {done.returncode}"
    if done.returncode == CANNOT_WRITE:
        raise files.CannotWrite(error)
    if done.returncode:
        raise RuntimeError(error)


def _no_answer():
    return RuntimeError(f"no answer in {LIMIT} s")


@contextlib.contextmanager
def _ending():
    """Options of a run of onnxruntime that ends in time."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    timer = threading.Timer(LIMIT, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    except Exception:
        if options.terminate:
            raise _no_answer() from None
        raise
    finally:
        timer.cancel()


def _onnx_session(path):
    check_installed("Running an ONNX file", ["onnxruntime"], "export")
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _run_session(session, inputs, options=None):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs, options), strict=True))


def _loaded(script, directory, calls):
    """Outputs of each of `calls` by a script of `processes`, and what it says of
    variables."""
    with files.temporary() as work:
        asked, answered = work / "calls", work / "outputs"
        asked.mkdir(), answered.mkdir()
        names = [f"{i:05d}.{call.signature}.npz" for i, call in enumerate(calls)]
        for name, call in zip(names, calls, strict=True):
            np.savez(asked / name, **call.inputs)
        run_process([sys.executable, PROCESSES / script, directory, asked, answered])
        file = answered / "variables.json"
        variables = json.loads(file.read_text()) if file.exists() else {}
        return [dict(np.load(answered / name)) for name in names], variables


def _bytes(array, dtype):
    """A tensor as `loader.c` reads it."""
    head = np.array([dtype, array.ndim], "int32")
    sizes = np.array([*array.shape, array.nbytes], "int64")
    return head.tobytes() + sizes.tobytes() + array.tobytes()


def _array(file):
    """A tensor as `loader.c` writes it."""
    from tensorflow import as_dtype

    dtype, rank = np.frombuffer(file.read(8), "int32")
    *shape, size = np.frombuffer(file.read(8 * (rank + 1)), "int64")
    kind = as_dtype(int(dtype)).as_numpy_dtype
    return np.frombuffer(file.read(int(size)), kind).reshape([int(n) for n in shape])


@functools.cache
def _c_program(temporary):
    """The path of `loader.c`, compiled for this process in a folder for temporary
    files."""
    import tensorflow as tf

    compiler, library = shutil.which("gcc"), Path(tf.sysconfig.get_lib())
    if compiler is None:
        raise Unavailable("gcc is not installed")
    names = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
    if not all((library / name).is_file() for name in names):
        raise Unavailable("this build of TensorFlow has no C library for Linux")
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    program = stack.enter_context(files.temporary(temporary)) / "loader"
    command = [compiler, "-O1", "-Wall", "-pthread", "-I", tf.sysconfig.get_include()]
    command += [PROCESSES / "loader.c", "-o", program, f"-Wl,-rpath,{library}"]
    try:
        run_process([*command, f"-L{library}", *(f"-l:{name}" for name in names)])
    except RuntimeError as error:
        raise Unavailable(f"gcc cannot compile it: {error}") from None
    return program


def _reason(text):
    """Why a process failed: what it said from its last line with an error on; of an
    error of TensorFlow what stands between two traces."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [i for i, n in enumerate(lines) if "Error" in n.split(" ")[0]]
    lines = lines[errors[-1] if errors else -1 :]
    nodes = [i for i, n in enumerate(lines) if n.startswith("Node: ")]
    lines = lines[nodes[0] + 1 if nodes else 0 :]
    traces = [i for i, n in enumerate(lines) if n.startswith("[[{{")]
    return " ".join(lines[: traces[0]] if traces else lines)[:600]


def _plain(outputs):
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs
