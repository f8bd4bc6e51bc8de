"""Every gate passes what is right; gates 1, 4 and 5 are broken on purpose."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_en import export
from keras_en.export.parity import runners, static
from keras_en.export.parity.checks import NOT_RUN, PASSED, Check, VariablesChanged
from tests.export.networks import residual, small, two_sided

pytestmark = pytest.mark.tensorflow


def test_by_hand():
    report = export.ParityReport("m.onnx", "ONNX", "net", {}, {}, {}, checks=[])
    assert report.passed and not report.failures
    wrong = Check(5, "order", "FAILED", "2 for 1", {"difference": 1.0})
    report.checks.append(wrong)
    assert not report.passed and report.failures == [wrong]
    assert "| 5 | order | FAILED | 2 for 1 |" in report.to_markdown()
    assert json.loads(report.to_json())["checks"][0]["measured"] == {"difference": 1}


def statuses(report, gate):
    return {check.name: check.status for check in report.checks if check.gate == gate}


def failed(report):
    return {(check.gate, check.name) for check in report.failures}


@pytest.mark.parametrize("options", [{}, {"layout": "nchw"}, {"fp16": True}])
def test_an_onnx_file_passes(tmp_path, options):
    model = small((None, None, 3))
    path = export.export_onnx(
        model, tmp_path / "m.onnx", dynamic=("batch", "height", "width"), **options
    )
    report = export.verify(model, path, batches=(1, 3), sizes=[(8, 8), (9, 12)])
    assert report.passed, report.failures
    assert statuses(report, 3) == {"form": PASSED}
    assert statuses(report, 7) == {"OpenVINO": PASSED, "onnxruntime": PASSED}
    assert "random, batch 3, 9 x 12" in statuses(report, 4)
    assert statuses(report, 4)["one pixel, batch 3"] == PASSED
    (nodes,) = [c for c in report.checks if c.name == "nodes"]
    assert nodes.measured["ExemplarNormalization"] <= static.NODES
    again = json.loads(report.to_json())
    assert again["passed"] and len(again["checks"]) == len(report.checks)
    assert report.to_markdown().startswith("# Parity: passed")


def test_several_inputs_and_outputs_pass(tmp_path):
    model = two_sided()
    path = export.export_onnx(model, tmp_path / "m.onnx")
    report = export.verify(model, path, batches=(2,))
    assert report.passed, report.failures


def test_gate_1_keras_s_own_saved_model_fails(tmp_path):
    """`tf.saved_model.save` is not servable: only Python can load it."""
    import tensorflow as tf

    model = small()
    tf.saved_model.save(model, str(tmp_path / "1"))
    report = export.verify(model, tmp_path / "1", batches=(1, 2))
    assert {(1, "graph-mode loader"), (1, "C program")} <= failed(report)
    (check,) = [c for c in report.failures if c.name == "graph-mode loader"]
    assert "Could not find variable" in check.detail
    assert statuses(report, 7) == {"warm-up requests": NOT_RUN}
    assert not report.passed and "FAILED" in report.to_markdown()


@pytest.mark.parametrize("name", ["python_loader.py", "session_loader.py"])
def test_gate_1_what_needs_keras_fails(tmp_path, name):
    """The processes really have no Keras."""
    shutil.copy(runners.PROCESSES / "process.py", tmp_path)
    text = (runners.PROCESSES / name).read_text()
    assert "    import numpy as np\n" in text
    script = tmp_path / name
    script.write_text(text.replace("    import numpy as np\n", "    import keras\n"))
    with pytest.raises(RuntimeError, match="import of keras halted"):
        runners.run_process([sys.executable, script, "a", "b", "c"])


def test_gate_2_variables_that_change_fail(model, saved_model, monkeypatch):
    def changed(*_):
        raise VariablesChanged("a variable changed")

    for loader in ("python_loader", "c_loader", "session_loader"):
        monkeypatch.setattr(runners, loader, changed)
    report = export.verify(model, saved_model, batches=(2,))
    assert (2, "graph-mode loader") in failed(report)
    assert statuses(report, 5) == {"all": NOT_RUN}
    (check,) = [c for c in report.checks if (c.gate, c.name) == (4, "all")]
    assert check.detail == "gate 2 failed"


def test_gate_4_other_weights_fail(tmp_path):
    model = small()
    path = export.export_onnx(model, tmp_path / "m.onnx")
    model.layers[0].kernel.assign(model.layers[0].kernel + 1e-3)
    report = export.verify(model, path, batches=(2,))
    assert (4, "random, batch 2") in failed(report)
    assert (7, "OpenVINO") in failed(report)
    assert {gate for gate, _ in failed(report)} == {4, 6, 7}


def test_gate_5_samples_that_depend_on_each_other_fail(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.UnitNormalization(axis=0)(x))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    report = export.verify(model, path, batches=(3,))
    assert failed(report) == {(5, "alone")}


def test_gate_5_an_order_that_matters_fails(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.cumsum(x, axis=0))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    report = export.verify(model, path, batches=(3,))
    assert failed(report) == {(5, "alone"), (5, "order")}


def test_bad_arguments(model, saved_model, onnx_file, tmp_path):
    for wrong in (tmp_path, tmp_path / "m.onnx", saved_model.parent):
        with pytest.raises(FileNotFoundError, match="SavedModel's version.*Received"):
            export.verify(model, wrong)
    (tmp_path / "m.onnx").write_bytes(b"no onnx")
    with pytest.raises(ValueError, match="m.onnx is not an ONNX file"):
        export.inspect(tmp_path / "m.onnx")
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a SavedModel"):
        export.inspect(tmp_path)
    with pytest.raises(ValueError, match="inputs and outputs of the model"):
        export.verify(two_sided(), onnx_file)
    with pytest.raises(ValueError, match="`signature` must be one of"):
        export.run_saved_model(saved_model, np.zeros(1), signature="nothing")


@pytest.mark.slow
def test_every_network_has_the_same_graph_twice(saved_model, tmp_path):
    """In another process, from a file."""
    model = residual()
    model.save(tmp_path / "m.keras")
    code = (
        "import sys, keras_en; from keras_en import export;"
        "p = export.export_saved_model(sys.argv[1], sys.argv[2], mean=[0.4, 0.5, 0.6],"
        " std=0.25, warmup_requests=False); print(export.inspect(p).graph_hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.keras", tmp_path / "again"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == export.inspect(saved_model).graph_hash


@pytest.mark.parametrize("shape", [[2**40, 2], ["batch", 3], ["batch"], []])
def test_inputs_that_the_model_has_not_are_refused(tmp_path, shape):
    import onnx

    model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    path = export.export_onnx(model, tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape)
    proto.graph.input[0].type.CopyFrom(kind)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="must have the inputs of the model"):
        export.verify(model, path)
