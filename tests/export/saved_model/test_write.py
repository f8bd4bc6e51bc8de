"""Versions, signatures and what lies beside the graph of a SavedModel."""

import io
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, export
from keras_en.analysis import collect_ratios
from keras_en.export.saved_model.write import next_version
from tests.backends import images, numpy
from tests.export.networks import linear, randomized, residual, small, two_sided

pytestmark = pytest.mark.tensorflow


def python_signatures(path):
    import tensorflow as tf

    saved = tf.saved_model.load(str(path))
    # A signature does not keep the variables it reads.
    saved.signatures.saved = saved
    return saved.signatures


def test_by_hand(tmp_path):
    """`2 x + 3`, for 1 and 5."""
    path = export.export_saved_model(linear(), tmp_path)
    serve = python_signatures(path)["serving_default"]
    outputs = serve(inputs=np.array([[1.0], [5.0]], "float32"))["outputs"]
    np.testing.assert_array_equal(outputs.numpy(), [[5.0], [13.0]])


def test_versions_count_on(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    (tmp_path / "3").mkdir()
    (tmp_path / "notes").mkdir()
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    assert path == tmp_path / "4"
    with pytest.raises(FileExistsError, match="must be new.*/4, which exists"):
        export.export_saved_model(model, tmp_path, version=4)
    (path / "mark").touch()
    again = export.export_saved_model(
        model, tmp_path, version=4, overwrite=True, warmup_requests=False
    )
    assert again == path and not (path / "mark").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "4", "notes"]


@pytest.mark.parametrize("name", ["٣", "9" * 19, "9" * 5000, "1²", "-5"])
def test_what_is_no_version(name):
    """Those of TensorFlow Serving are ASCII digits, in 64 bits."""
    from keras_en.export.saved_model.write import version_of

    assert version_of(name) is None
    assert version_of("007") == 7 and version_of("0" * 5000 + "12") == 12


def test_after_the_last_version(model, tmp_path):
    for name in ("٣", "9" * 200, "5"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 6
    (tmp_path / str(2**63 - 1)).mkdir()
    for version in (None, 2**63):
        with pytest.raises(ValueError, match="`version` must be.*Received: version="):
            export.export_saved_model(model, tmp_path, version)
    assert len(list(tmp_path.iterdir())) == 4


def test_variables_are_saved_once(model, saved_model):
    """Keras's own export of a tracked model writes each of them twice."""
    (data,) = (saved_model / "variables").glob("*.data*")
    assert data.stat().st_size < 1.1 * 4 * model.count_params()


def test_ratios_are_served(model, saved_model):
    x = images(np.random.default_rng(0), (5, 8, 8, 3))
    outputs = python_signatures(saved_model)["ratios"](inputs=x)
    served = {k: v.numpy() for k, v in outputs.items()}
    expected = collect_ratios(model, x)
    assert len(served) == 1 + len(expected) == 10
    np.testing.assert_allclose(served.pop("outputs"), numpy(model(x)), atol=1e-5)
    for path, ratios in expected.items():
        np.testing.assert_allclose(served[path.split("/")[-1]], ratios, atol=1e-5)


def test_ratios_of_layers_of_one_name_and_of_one_called_twice():
    layer = ExemplarNormalization(name="norm")
    inner = keras.Sequential([ExemplarNormalization(name="norm")], name="inner")
    x = keras.Input((4, 4, 3))
    model = randomized(keras.Model(x, layer(inner(layer(x)))))
    from keras_en.export import serving

    outputs = serving.forward_with_ratios(model)(np.ones((2, 4, 4, 3), "float32"))
    own, other = (layer.path for layer in (layer, inner.layers[0]))
    assert set(outputs) == {"outputs", own, f"{own}_1", other}


@pytest.mark.parametrize("size", [(8, 8), (40, 31)])
def test_encoded_images_are_decoded_resized_and_normalized(model, saved_model, size):
    """Against Pillow."""
    from PIL import Image

    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (3, 4, 4, 3)).astype("uint8")
    pictures = [Image.fromarray(p).resize(size[::-1], Image.BICUBIC) for p in smooth]
    encoded = np.empty(3, object)
    for i, picture in enumerate(pictures):
        data = io.BytesIO()
        picture.save(data, "PNG")
        encoded[i] = data.getvalue()
    pixels = np.stack([p.resize((8, 8), Image.BILINEAR) for p in pictures])
    x = (pixels / 255 - [0.4, 0.5, 0.6]) / 0.25
    serve = python_signatures(saved_model)["serving_bytes"]
    outputs = serve(image_bytes=encoded.tolist())["outputs"].numpy()
    # Pillow rounds what it resized to integers; without resizing there is no rounding.
    tolerance = 1e-5 if size == (8, 8) else 0.02
    np.testing.assert_allclose(
        outputs, numpy(model(x.astype("float32"))), atol=tolerance
    )


def test_jpeg_and_gray_images(tmp_path):
    import tensorflow as tf

    model = residual("bn", (8, 8, 1))
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    pixels = np.full((8, 8, 1), 100, "uint8")
    data = [f(pixels).numpy() for f in (tf.io.encode_jpeg, tf.io.encode_png)]
    served = python_signatures(path)["serving_bytes"](image_bytes=data)["outputs"]
    expected = numpy(model(np.full((1, 8, 8, 1), 100 / 255, "float32")))
    np.testing.assert_allclose(served.numpy(), [expected[0]] * 2, atol=0.05)
    assert list(python_signatures(path)) == ["serving_default", "serving_bytes"]


def test_warm_up_requests_are_requests(saved_model):
    """They can be played: as TensorFlow Serving reads them, to every signature."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    signatures, played = python_signatures(saved_model), []
    file = saved_model / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        name = request.model_spec.signature_name
        inputs = {
            key: tf.constant(tf.make_ndarray(value))
            for key, value in request.inputs.items()
        }
        assert signatures[name](**inputs)["outputs"].shape == (1, 10)
        played.append(name)
    assert played == ["serving_default", "serving_bytes", "ratios"]


def test_the_record(model, saved_model):
    record = json.loads((saved_model / "assets.extra" / "keras_en.json").read_text())
    assert record["norm"] == {"ExemplarNormalization": 9}
    assert record["normalizers"] == [["instance", "layer", "batch"]]
    assert record["r"] == [8, 16, 32] and record["pi"] == [50]
    assert record["parameters"] == model.count_params()
    assert record["options"]["mean"] == [0.4, 0.5, 0.6]
    assert export.inspect(saved_model).record == {**record, "warmup_requests": True}
    assert export.inspect(saved_model).graph_hash == record["graph_hash"]


def test_several_inputs_and_outputs(tmp_path):
    model = two_sided()
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    rng = np.random.default_rng(0)
    inputs = {"images": images(rng, (3, 8, 8, 3)), "n": images(rng, (3, 5))}
    served = python_signatures(path)["serving_default"](**inputs)
    expected = model(inputs)
    for name, value in zip(("classes", "scores"), expected, strict=True):
        np.testing.assert_allclose(served[name].numpy(), numpy(value), atol=1e-6)


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
    signature = python_signatures(served)["serving_default"]
    for n in (1, 5):
        x = images(rng, (n, 4, 4, 3))
        for y in (signature(inputs=x)["outputs"].numpy(), export.run_onnx(onnx, x)):
            np.testing.assert_allclose(y, numpy(model(x)), atol=1e-5)


def test_a_fixed_size_for_open_ones(tmp_path):
    model = residual("bn", (None, None, 3))
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    assert list(export.inspect(path).signatures) == ["serving_default"]
    path = export.export_saved_model(
        model, tmp_path, image_size=(8, 12), warmup_requests=False
    )
    inputs, _ = export.inspect(path).signatures["serving_default"]
    assert inputs == {"inputs": ("float32", [None, 8, 12, 3])}
    assert "serving_bytes" in export.inspect(path).signatures


def test_each_signature_is_traced_once(tmp_path):
    """Neither a nested model nor TensorFlow's saving asks for more graphs."""
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(x)
            return x

    layers = [keras.Input((4, 4, 3)), Counted(), ExemplarNormalization()]
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.Sequential(layers)])
    calls.clear()
    # "auto" asks the first layers.
    path = export.export_saved_model(model, tmp_path, pixels="0-1")
    assert len(calls) == len(export.inspect(path).signatures) == 3


def test_no_partial_version_is_left(tmp_path, monkeypatch):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    def interrupted(saved, path, **kwargs):
        (Path(path) / "variables").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.saved_model, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export_saved_model(model, tmp_path / "new" / "deep")
    assert not any(tmp_path.iterdir())


def test_what_a_check_refuses_is_not_there(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    def refuse(path):
        assert (path / "saved_model.pb").is_file()
        raise ArithmeticError

    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(ArithmeticError):
        export.export_saved_model(
            model, tmp_path, 1, overwrite=True, warmup_requests=False, check=refuse
        )
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == [
        "1",
        "1/saved_model.pb",
    ]


def test_bad_arguments(model, tmp_path):
    def refused(error, match, *args, **kwargs):
        with pytest.raises(error, match=match):
            export.export_saved_model(*args, **kwargs)

    new = tmp_path / "new"
    for version in (0, -1, "1", "../up", True):
        words = "`version` must be a positive integer"
        refused(ValueError, words, model, new, version=version)
    refused(ValueError, "names of.*'nothing'", model, new, signatures=["nothing"])
    refused(ValueError, "must be a height and a width", model, new, image_size=(8,))
    refused(ValueError, "be that of the model", model, new, image_size=(9, 8))
    refused(ValueError, "`mean` must be a number, or", model, new, mean=[1, 2])
    refused(ValueError, "`std` must be a positive", model, new, std=0)
    for unknown in (keras.Sequential([keras.layers.Dense(2)]), Unbuilt()):
        refused(ValueError, "must be a functional or Sequential", unknown, new)
    for wrong in (3, None):
        refused(TypeError, "model or the path of a .keras", wrong, new)
    refused(ValueError, "path that ends in .keras", "model.h5", new)
    refused(FileNotFoundError, "a file that exists", "no/model.keras", new)
    (tmp_path / "bad.keras").write_text("bad")
    refused(ValueError, "not a file that Keras can read", tmp_path / "bad.keras", new)
    refused(
        FileExistsError, "a folder. Received.*a file", model, tmp_path / "bad.keras"
    )
    small = residual("bn", (None, None, 2))
    words = "must be a list of names of.*'serving_bytes'"
    refused(ValueError, words, small, new, signatures=["serving_bytes"])
    refused(ValueError, "needs one.*'ratios'", small, new, signatures=["ratios"])
    (tmp_path / "bad.keras").unlink()
    assert not any(tmp_path.iterdir())


class Unbuilt(keras.Model):
    def call(self, x):
        return x


def test_warm_up_needs_its_package(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(RuntimeError, match="pip install 'keras-en.export.'"):
        export.export_saved_model(model, tmp_path / "new")
    assert not any(tmp_path.iterdir())


def test_mixed_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = small()
    finally:
        keras.config.set_dtype_policy("float32")
    path = export.export_saved_model(mixed, tmp_path, warmup_requests=False)
    exact = small()
    for new, old in zip(exact.variables, mixed.variables, strict=True):
        new.assign(old)
    x = images(np.random.default_rng(0), (2, 8, 8, 3))
    served = python_signatures(path)["serving_default"](inputs=x)["outputs"].numpy()
    np.testing.assert_allclose(served, numpy(exact(x)), atol=1e-5, rtol=1e-4)
    assert np.abs(served - numpy(keras.ops.cast(mixed(x), "float32"))).max() > 1e-4
