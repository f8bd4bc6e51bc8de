"""Models of users: what a layer keeps, loops, sizes, dtypes, names."""

import hashlib

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, export
from keras_en.analysis import collect_ratios
from keras_en.export.parity import served
from keras_en.export.parity.checks import Unequal
from tests.backends import images, numpy, randomize
from tests.export.networks import randomized, small

pytestmark = pytest.mark.tensorflow

layers = keras.layers


def test_by_hand(tmp_path):
    """Two inputs, by their names: 1 + 2."""
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    model = keras.Model([a, b], layers.Add()([a, b]))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    one, two = np.array([[1]], "float32"), np.array([[2]], "float32")
    assert export.run_onnx(path, {"a": one, "b": two}) == 3


def onnx_close(model, path, x, atol=1e-5):
    np.testing.assert_allclose(
        export.run_onnx(path, x), numpy(model(x, training=False)), atol=atol, rtol=1e-4
    )


@pytest.fixture
def normalized():
    """A layer with constants made of its variables."""
    rng = np.random.default_rng(0)

    def build(policy="float32"):
        keras.config.set_dtype_policy(policy)
        try:
            layer = layers.Normalization()
            layer.adapt(rng.normal(5, 3, (100, 4)).astype("float32"))
            return keras.Sequential([keras.Input((4,)), layer, layers.Dense(3)])
        finally:
            keras.config.set_dtype_policy("float32")

    return build


def test_constants_become_constants(tmp_path, normalized):
    model = normalized()
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert list(export.inspect(path).signatures["serving_default"][0]) == ["inputs"]
    onnx_close(model, path, images(np.random.default_rng(0), (3, 4)))
    assert export.verify(model, path, batches=(1, 3)).passed


def test_constants_are_those_of_the_copy(tmp_path, normalized):
    model = normalized("mixed_float16")
    path = export.export_onnx(model, tmp_path / "m.onnx")
    x = images(np.random.default_rng(0), (3, 4))
    expected = numpy(keras.ops.cast(model(x), "float32"))
    np.testing.assert_allclose(export.run_onnx(path, x), expected, atol=1e-2)
    report = export.verify(model, path, batches=(3,))
    assert report.passed and "float32 copy" in [c.name for c in report.checks]


class Hidden(layers.Layer):
    factor = 1.0

    def call(self, x):
        return x * self.factor


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_copy_that_is_another_function_proves_nothing(tmp_path, policy):
    """What a layer keeps outside its configuration and weights is not copied."""
    keras.config.set_dtype_policy(policy)
    try:
        hidden = Hidden()
        model = keras.Sequential([keras.Input((4,)), hidden, layers.Dense(3)])
    finally:
        keras.config.set_dtype_policy("float32")
    hidden.factor = 5.0
    path = export.export_onnx(model, tmp_path / "m.onnx")
    report = export.verify(model, path, batches=(3,))
    failed = {(check.gate, check.name) for check in report.failures}
    if policy == "float32":
        assert not failed
        model.layers[-1].kernel.assign(model.layers[-1].kernel * 1.3)
        report = export.verify(model, path, batches=(3,))
        assert (4, "random, batch 3") in {(c.gate, c.name) for c in report.failures}
    else:
        assert failed == {(4, "float32 copy")}


def test_weights_that_few_inputs_reach(tmp_path):
    """Rows of an embedding; attention between several tokens."""
    x = keras.Input((3,), dtype="int32")
    embedding = keras.Model(x, layers.Dense(2)(layers.Embedding(20, 4)(x)))
    path = export.export_onnx(embedding, tmp_path / "e.onnx")
    assert export.verify(embedding, path, batches=(1, 32)).passed
    table = embedding.layers[1].embeddings
    table.assign(np.concatenate([table[:2], table[2:] + 10]))
    assert not export.verify(embedding, path, batches=(1, 32)).passed


@pytest.mark.parametrize("layer", [layers.GRU, layers.LSTM])
def test_loops(tmp_path, layer):
    model = keras.Sequential([keras.Input((5, 3)), layer(4)])
    path = export.export_onnx(model, tmp_path / "m.onnx")
    onnx_close(model, path, images(np.random.default_rng(0), (2, 5, 3)))


def test_layers_that_train_by_default(tmp_path):
    """Augmentation: a random layer in training, nothing in inference mode."""
    x = keras.Input((8, 8, 3))
    y = layers.RandomFlip()(layers.Resizing(8, 8)(x))
    model = keras.Model(x, layers.Dropout(0.5)(layers.CenterCrop(4, 4)(y)))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    onnx_close(model, path, images(np.random.default_rng(0), (2, 8, 8, 3)))


@pytest.mark.parametrize("pad", [0, 1])
def test_images_of_one_pixel_where_the_model_takes_none(tmp_path, pad):
    """With a padded one there are maps without a pixel, whose mean is no number."""
    x = keras.Input((None, None, 3))
    y = layers.ZeroPadding2D(((0, pad), (0, pad)))(x)
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(y))
    model = keras.Model(x, y)
    sizes = ("batch", "height", "width")
    path = export.export_onnx(model, tmp_path / "m.onnx", dynamic=sizes)
    report = export.verify(model, path, batches=(1, 2))
    assert report.passed, report.failures
    (check,) = [c for c in report.checks if c.name.startswith("one pixel")]
    assert check.status == "not run" and "the model itself cannot" in check.detail


@pytest.mark.parametrize("axis", [1, 2])
def test_channels_on_another_axis(tmp_path, axis):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same"),
            ExemplarNormalization(axis=axis, name="norm"),
            layers.Conv2D(2, 3),
        ]
    )
    path = export.export_onnx(randomized(model), tmp_path / "m.onnx")
    onnx_close(model, path, images(np.random.default_rng(0), (2, 8, 8, 3)))


def test_boolean_and_infinite_outputs(tmp_path):
    x = keras.Input((4,))
    for i, y in enumerate((x > 0, keras.ops.log(keras.ops.relu(x)))):
        model = keras.Model(x, y)
        path = export.export_onnx(model, tmp_path / f"{i}.onnx")
        report = export.verify(model, path, batches=(2, 2, 3))
        assert report.passed, report.failures


def test_ratios_do_not_hide_outputs():
    from keras_en.export import serving

    norm, other = (
        ExemplarNormalization(name="norm"),
        ExemplarNormalization(name="norm_1"),
    )
    x = keras.Input((4, 4, 3))
    y = norm(x)
    model = keras.Model(x, [y, other(norm(y))])
    outputs = serving.forward_with_ratios(model)(np.ones((2, 4, 4, 3), "float32"))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert list(shapes.values()).count((2, 3)) == 3
    assert shapes["norm"] == (2, 4, 4, 3) and len(shapes) == 5


class Pyramid(layers.Layer):
    """Calls one of its normalizations twice and one never."""

    def __init__(self):
        super().__init__()
        self.norms = [ExemplarNormalization(name=f"norm_{i}") for i in range(2)]

    def call(self, x):
        return self.norms[0](self.norms[0](x) + 1.0)

    def build(self, shape):
        self.norms[0].build(shape)


def test_ratios_of_layers_that_are_called_twice_or_never(tmp_path):
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(2, 3, name="norm_0")(Pyramid()(x))
    model = randomized(keras.Model(x, [y, layers.ReLU()(y)]))
    options = {"signatures": ["serving_default", "ratios"], "warmup_requests": False}
    path = export.export_saved_model(model, tmp_path, **options)
    report = export.verify(model, path, batches=(1, 3))
    assert report.passed, report.failures
    (ratios,) = (c for c in report.checks if c.name == "ratios")
    assert ratios.detail.startswith("2 calls")


def test_reserved_metadata_and_folders(tmp_path):
    model = small()
    for key in ("options", "graph_hash", "norm"):
        with pytest.raises(ValueError, match=f"must not hold the keys \\['{key}'\\]"):
            export.export_onnx(model, tmp_path / "m.onnx", metadata={key: "x"})
    (tmp_path / "m.onnx").mkdir()
    (tmp_path / "m.onnx" / "notes").touch()
    with pytest.raises(FileExistsError, match="must be a file. Received.*a folder"):
        export.export_onnx(model, tmp_path / "m.onnx", overwrite=True)
    (tmp_path / "served" / "1").mkdir(parents=True)
    (tmp_path / "served" / "1" / "notes").touch()
    with pytest.raises(FileExistsError, match="replaces versions only"):
        export.export_saved_model(model, tmp_path / "served", 1, overwrite=True)
    assert len(list(tmp_path.rglob("notes"))) == 2


def test_no_stale_weights_beside_a_new_file(tmp_path, monkeypatch):
    from keras_en.export.onnx import graph as onnx_graph

    with monkeypatch.context() as patch:
        patch.setattr(onnx_graph, "EXTERNAL", 2_000)
        export.export_onnx(small(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").is_file()
    export.export_onnx(small(), tmp_path / "m.onnx", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_open_lengths(tmp_path):
    """Of text: any number of tokens."""
    tokens = keras.Input((None,), dtype="int32")
    y = layers.Embedding(20, 4)(tokens)
    model = keras.Model(tokens, layers.MultiHeadAttention(2, 2)(y, y))
    path = export.export_onnx(model, tmp_path / "m.onnx")
    inputs, _ = export.inspect(path).signatures["serving_default"]
    assert inputs["inputs"][1] == ["batch", "dim1"]
    x = np.random.default_rng(0).integers(0, 20, (3, 7)).astype("int32")
    onnx_close(model, path, x)
    assert export.verify(model, path, batches=(1, 3)).passed
    model.layers[1].embeddings.assign(np.ones((20, 4)))
    assert not export.verify(model, path, batches=(1, 3)).passed


def test_weights_of_a_saved_model_are_compared_bit_by_bit():
    model = small()
    own = {
        v.path: hashlib.sha256(numpy(v).tobytes()).hexdigest() for v in model.variables
    }
    served.same_weights(model, own)
    model.layers[-1].bias.assign_add(np.full(10, 1e-7))
    with pytest.raises(Unequal, match="1 are not the model's: .*dense/bias"):
        served.same_weights(model, own)


@pytest.mark.parametrize(
    "names", [("left image", "b"), ("a", "A"), ("self", "b"), ("outputs", "b")]
)
def test_names_of_inputs(tmp_path, names):
    a, b = (keras.Input((2,), name=name) for name in names)
    model = keras.Model([a, b], layers.Add(name="add")([a, b]))
    for write, path in (
        (export.export_saved_model, tmp_path / "served"),
        (export.export_onnx, tmp_path / "m.onnx"),
    ):
        with pytest.raises(ValueError, match="inputs whose names are identifiers"):
            write(model, path)
    assert not any(tmp_path.iterdir())


def test_what_has_no_batch_axis_or_its_channels_first(tmp_path, monkeypatch):
    x = keras.Input((2,))
    model = keras.Model(x, keras.ops.sum(x))
    with pytest.raises(ValueError, match="must have outputs with a batch axis"):
        export.export_onnx(model, tmp_path / "m.onnx")
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(ValueError, match="`layout` must be 'nhwc', which leaves"):
        export.export_onnx(small(), tmp_path / "m.onnx", layout="nchw")
    assert not any(tmp_path.iterdir())


def test_a_layer_of_others_with_the_same_argument(tmp_path):
    class Other(layers.Layer):
        def call(self, x, return_ratios=False):
            return (x, x) if return_ratios else x

    model = keras.Sequential([keras.Input((2,)), Other(), layers.Dense(2)])
    path = export.export_onnx(model, tmp_path / "m.onnx")
    onnx_close(model, path, images(np.random.default_rng(0), (2, 2)))


def test_branches_whose_layers_have_one_name(tmp_path, rng):
    """Ratios of each are told, and counted."""

    def branch(name):
        inputs = keras.Input((4, 4, 4))
        outputs = ExemplarNormalization(name="norm")(inputs)
        return keras.Model(inputs, outputs, name=name)

    inputs = keras.Input((4, 4, 4))
    parts = [branch("left")(inputs), branch("right")(inputs)]
    model = keras.Model(inputs, keras.layers.Concatenate()(parts))
    randomize(model, rng)
    x = images(rng, (3, 4, 4, 4))
    path = export.export_saved_model(model, tmp_path, warmup_requests=False)
    served = export.run_saved_model(path, x, "ratios")
    expected = collect_ratios(model, x)
    for name in ("norm", "norm_1"):
        np.testing.assert_allclose(served[name], expected[name], atol=1e-6)
    assert export.inspect(path).record["norm"] == {"ExemplarNormalization": 2}
