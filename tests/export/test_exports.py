"""Both exports in the processes that would load them, against the model."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_en import ExemplarNormalization, export
from keras_en.models import CifarResNet
from tests import backends
from tests.backends import images, numpy
from tests.serving import serve

pytestmark = pytest.mark.tensorflow


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


@pytest.mark.parametrize("build", ["fit", "batch_shape"])
def test_the_batch_size_a_model_was_built_with_is_not_exported(tmp_path, build):
    layers = [keras.layers.Flatten(), keras.layers.Dense(2)]
    layers = [ExemplarNormalization(), *layers]
    if build == "batch_shape":
        layers = [keras.Input(batch_shape=(4, 4, 4, 3)), *layers]
    model = keras.Sequential(layers)
    rng = np.random.default_rng(0)
    if build == "fit":
        model.compile("sgd", "mse")
        model.fit(
            images(rng, (16, 4, 4, 3)), np.zeros((16, 2)), batch_size=16, verbose=0
        )
    served = export.export_saved_model(model, tmp_path)
    onnx = export.export_onnx(model, tmp_path / "m.onnx")
    for n in (1, 5):
        x = images(rng, (n, 4, 4, 3))
        for y in (export.run_saved_model(served, x), export.run_onnx(onnx, x)):
            np.testing.assert_allclose(y, numpy(model(x)), atol=1e-5)


def test_no_half_version_is_left(model, tmp_path, monkeypatch):
    def interrupted(self, path, **kwargs):
        (Path(path) / "variables").mkdir(parents=True)
        raise KeyboardInterrupt

    archive = type(keras.export.ExportArchive())
    monkeypatch.setattr(archive, "write_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export_saved_model(model, tmp_path)
    assert not any(tmp_path.iterdir())


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
    for version in (0, -1, "1", "../up", True):
        with pytest.raises(ValueError, match="`version` must be a positive integer"):
            export.export_saved_model(model, tmp_path / "served", version=version)
    a, b = keras.Input((2,)), keras.Input((2,))
    two = keras.Model([a, b], keras.layers.Add()([a, b]))
    for wrong in (two, keras.Sequential([keras.layers.Dense(2)])):
        with pytest.raises(ValueError, match="one input and one output"):
            export.export_saved_model(wrong, tmp_path / "wrong")
        with pytest.raises(ValueError, match="one input and one output"):
            export.export_onnx(wrong, tmp_path / "wrong.onnx")
    assert not any(tmp_path.iterdir())
