"""Both exports in the processes that would load them, against the model."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_en import export
from keras_en.models import CifarResNet
from tests import backends
from tests.backends import images, numpy

pytestmark = pytest.mark.tensorflow

# Runs where keras and keras_en cannot be imported, as TensorFlow Serving does.
SESSION = """
import json, sys
sys.modules["keras"] = sys.modules["keras_en"] = None
import numpy as np
import tensorflow as tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    signature = model.signature_def["serving_default"]
    (fed,), (fetched,) = signature.inputs.values(), signature.outputs.values()
    for line in sys.stdin:
        inputs = np.array(json.loads(line), "float32")
        outputs = session.run(fetched.name, {fed.name: inputs})
        print("outputs", json.dumps(outputs.tolist()))
"""


def serve(directory, batches):
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(directory)],
        input="\n".join(json.dumps(x.tolist()) for x in batches),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    lines = [line for line in done.stdout.splitlines() if line.startswith("outputs")]
    return [np.array(json.loads(line.removeprefix("outputs "))) for line in lines]


@pytest.fixture(scope="module", params=["en", "bn"])
def model(request):
    rng = np.random.default_rng(0)
    model = CifarResNet(8, input_shape=(8, 8, 1), norm=request.param)
    for layer in model.layers:
        if layer.name.endswith("_norm"):
            backends.randomize(layer, rng)
    return model


def batches():
    rng = np.random.default_rng(1)
    return [images(rng, (n, 8, 8, 1)) for n in (1, 7, 32)]


def test_saved_model_in_a_process_without_keras(model, tmp_path):
    path = export.export_saved_model(model, tmp_path / "served")
    assert path == tmp_path / "served" / "1"
    before = [numpy(v) for v in model.variables]
    for x, y in zip(batches(), serve(path, batches()), strict=True):
        expected = numpy(model(x, training=False))
        np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-4)
        np.testing.assert_allclose(export.run_saved_model(path, x), y, atol=1e-6)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(numpy(new), old)


def test_the_process_rejects_what_only_python_can_load(model, tmp_path):
    """The test above must be able to fail: `tf.saved_model.save` is not servable."""
    tf.saved_model.save(model, str(tmp_path / "1"))
    with pytest.raises(RuntimeError, match="Could not find variable"):
        serve(tmp_path / "1", batches()[:1])


def test_onnx(model, tmp_path):
    import onnx

    path = export.export_onnx(model, tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    (given,), (returned,) = proto.graph.input, proto.graph.output
    assert (given.name, returned.name) == ("inputs", "outputs")
    for value in (given, returned):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {entry.domain for entry in proto.opset_import} <= {"", "ai.onnx.ml"}
    assert max(e.version for e in proto.opset_import if e.domain == "") == 17
    for x in batches():
        expected = numpy(model(x, training=False))
        np.testing.assert_allclose(
            export.run_onnx(path, x), expected, atol=1e-5, rtol=1e-4
        )


def test_nothing_is_overwritten(model, tmp_path):
    export.export_saved_model(model, tmp_path)
    with pytest.raises(FileExistsError, match="`directory` holds version 1 already"):
        export.export_saved_model(model, tmp_path)
    (tmp_path / "m.onnx").write_text("kept")
    with pytest.raises(FileExistsError, match="`path` exists already.*m.onnx"):
        export.export_onnx(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_text() == "kept"


def test_bad_arguments(model, tmp_path):
    with pytest.raises(ValueError, match="`path` must end in .onnx. Received: .*m.pb"):
        export.export_onnx(model, tmp_path / "m.pb")
    with pytest.raises(ValueError, match="`opset` must be .* 9 to 18. Received: .*=30"):
        export.export_onnx(model, tmp_path / "m.onnx", opset=30)
    a, b = keras.Input((2,)), keras.Input((2,))
    two = keras.Model([a, b], keras.layers.Add()([a, b]))
    for wrong in (two, keras.Sequential([keras.layers.Dense(2)])):
        with pytest.raises(ValueError, match="one input and one output"):
            export.export_saved_model(wrong, tmp_path / "wrong")
        with pytest.raises(ValueError, match="one input and one output"):
            export.export_onnx(wrong, tmp_path / "wrong.onnx")
    assert not any(tmp_path.iterdir())
