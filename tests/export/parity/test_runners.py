"""Runners: what they cannot run is not run, and what is wrong fails."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from keras_en import export, files
from keras_en.export.parity import runners
from keras_en.export.parity.cases import Call
from keras_en.export.parity.checks import FAILED, NOT_RUN, check
from tests.export.networks import linear
from tests.sources import ROOT

pytestmark = pytest.mark.tensorflow
# How OpenVINO reports a GRU's loop, and a file that is none: by one class.
LOOP = (
    "Check 'false' failed at src/frontends/common_translators/src/unconverted_ops.cpp:"
    "\nFrontEnd API failed with OpConversionFailure:\nModel wasn't fully converted."
    "\n-- Conversion is failed for: Loop-17"
)
DAMAGED = "FrontEnd API failed with GeneralFailure:\nModel can't be parsed"


@pytest.mark.parametrize("message, status", [(LOOP, NOT_RUN), (DAMAGED, FAILED)])
def test_operators_that_openvino_has_not(monkeypatch, onnx_file, message, status):
    openvino = pytest.importorskip("openvino")

    def compile_model(*_):
        raise RuntimeError(message)

    core = SimpleNamespace(compile_model=compile_model)
    monkeypatch.setattr(openvino, "Core", lambda: core)
    checked = check(7, "OpenVINO", runners.openvino, onnx_file, [])
    assert checked.status == status and message.split()[-1] in checked.detail


def test_a_process_without_an_answer(monkeypatch):
    monkeypatch.setattr(runners, "LIMIT", 0.5)
    command = [sys.executable, "-c", "while True: pass"]
    with pytest.raises(RuntimeError, match=r"^no answer in 0\.5 s$"):
        runners.run_process(command)


def endless(path):
    """An ONNX file whose loop does not end."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    number = [helper.make_tensor_value_info(n, floats, [1]) for n in ("x", "y")]
    inner = [helper.make_tensor_value_info(n, floats, [1]) for n in ("a", "b")]
    step = helper.make_tensor_value_info("step", onnx.TensorProto.INT64, [])
    on, off = (
        helper.make_tensor_value_info(n, onnx.TensorProto.BOOL, []) for n in ("i", "o")
    )
    nodes = [
        helper.make_node("Add", ["a", "a"], ["b"]),
        helper.make_node("Identity", ["i"], ["o"]),
    ]
    body = helper.make_graph(nodes, "body", [step, on, inner[0]], [off, inner[1]])
    true = helper.make_tensor("true", onnx.TensorProto.BOOL, [], [True])
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    graph = helper.make_graph([loop], "endless", number[:1], number[1:], [true])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_an_onnx_file_without_an_answer(monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    endless(tmp_path / "m.onnx")
    monkeypatch.setattr(runners, "LIMIT", 0.5)
    call = Call(runners.DEFAULT, {"x": np.ones(1, "float32")})
    checked = check(7, "onnxruntime", runners.onnxruntime, tmp_path / "m.onnx", [call])
    assert (checked.status, checked.detail) == (FAILED, "no answer in 0.5 s")


def test_a_full_disk_says_nothing_about_an_artefact(monkeypatch, tmp_path):
    code = "import process"
    code += "\nwith process.writing(): raise OSError(28, 'No space left')"
    monkeypatch.setenv("PYTHONPATH", str(runners.PROCESSES))
    with pytest.raises(files.CannotWrite, match="No space left"):
        check(1, "loader", runners.run_process, [sys.executable, "-c", code])


def test_a_process_ends_with_its_parent(tmp_path):
    """The parent is killed; its program, which would run on, reads that it is gone."""
    program = "import process, time; open('started', 'w').close()\n"
    program += "process.run(lambda: time.sleep(1e5))"
    code = "import sys; from keras_en.export.parity import runners\n"
    code += f"runners.run_process([sys.executable, '-c', {program!r}])"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{runners.PROCESSES}"}
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "started").exists():
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.01)
    parent.kill()
    # Both ends of its pipes are closed when the program, too, has ended.
    parent.communicate(timeout=60)


NEEDED = {
    "onnx": lambda path: export.inspect(path),
    "onnxruntime": lambda path: export.run_onnx(path, np.zeros((1, 1), "float32")),
    "tf2onnx": lambda path: export.export_onnx(linear(), path.with_name("new.onnx")),
    "tensorflow_serving": lambda path: export.export_saved_model(linear(), path.parent),
}


@pytest.mark.parametrize("package", NEEDED)
def test_a_missing_package_is_named(monkeypatch, onnx_file, package):
    monkeypatch.setitem(sys.modules, package, None)
    hint = r"pip install 'keras-en\[export\]', or in a clone of keras_en, "
    with pytest.raises(RuntimeError, match=f"needs {package}: {hint}"):
        NEEDED[package](onnx_file)


def test_without_onnxruntime_nothing_is_compared(monkeypatch, model, onnx_file):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeError, match="Comparing an ONNX file needs onnxruntime"):
        export.verify(model, onnx_file)
