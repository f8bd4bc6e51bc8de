import keras
import numpy as np
import pytest

from keras_en import (
    ExemplarNormalization,
    SwitchableNormalization,
    replace_normalization,
)
from keras_en.analysis import collect, collect_ratios, exemplar_layers
from tests import backends
from tests.backends import images, numpy


def test_equal_ratios_at_the_start():
    """Two samples, two normalizers: all ratios are a half."""
    norm = ExemplarNormalization(normalizers=("layer", "batch"), name="norm")
    model = keras.Sequential([keras.Input((8, 3)), norm], name="model")
    ratios = collect_ratios(model, np.zeros((2, 8, 3)))
    assert list(ratios) == ["model/norm"]
    np.testing.assert_allclose(ratios["model/norm"], [[0.5, 0.5], [0.5, 0.5]])


@keras.saving.register_keras_serializable(package="tests.collect")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = ExemplarNormalization(name="own")
        self.inner = keras.Sequential([ExemplarNormalization(name="nested")])

    def call(self, x, training=False):
        return self.inner(self.norm(x, training=training), training=training)


def functional():
    inputs = keras.Input((6, 6, 4))
    inner = keras.Sequential(
        [keras.Input((6, 6, 8)), ExemplarNormalization(name="deep")]
    )
    x = ExemplarNormalization(name="first")(inputs)
    x = keras.layers.Conv2D(8, 3, padding="same")(x)
    return keras.Model(inputs, inner(x))


@pytest.mark.parametrize("build", [functional, Subclassed])
def test_ratios_of_every_layer(rng, build):
    model, x = build(), images(rng, (7, 6, 6, 4))
    model(x)
    by_path = exemplar_layers(model)
    assert len(by_path) == 2
    for layer in by_path.values():
        backends.randomize(layer, rng)
    before = numpy(model(x))
    nodes = len(model.layers[-1]._inbound_nodes)
    ratios = collect_ratios(model, x, batch_size=3)
    assert list(ratios) == list(by_path)
    np.testing.assert_array_equal(numpy(model(x)), before)
    assert len(model.layers[-1]._inbound_nodes) == nodes, "the model is left as it was"

    first = next(iter(by_path))
    _, expected = by_path[first](x, training=False, return_ratios=True)
    np.testing.assert_allclose(ratios[first], numpy(expected), atol=1e-6)
    for values in ratios.values():
        assert values.shape == (7, 3)
        np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)


def test_replaced_and_from_a_file(rng, tmp_path, capsys):
    """Layers that took the place of others, of a network that was saved."""
    layers = [keras.Input((6, 6, 4)), keras.layers.BatchNormalization(name="norm")]
    plain = keras.Sequential(layers, name="net")
    model, x = replace_normalization(plain), images(rng, (5, 6, 6, 4))
    (norm,) = exemplar_layers(model).values()
    backends.randomize(norm, rng)
    expected = collect_ratios(model, x, batch_size=2, verbose=1)
    assert "3/3" in capsys.readouterr().out, "progress"
    model.save(tmp_path / "net.keras")
    ratios = collect_ratios(keras.models.load_model(tmp_path / "net.keras"), x)
    assert list(ratios) == list(expected) == ["norm"]
    np.testing.assert_allclose(ratios["norm"], expected["norm"], atol=1e-6)


def test_a_failing_call_leaves_the_model_as_it_was(rng):
    model = functional()
    with pytest.raises(ValueError):
        collect_ratios(model, images(rng, (2, 6, 6, 5)))
    assert all("call" not in vars(layer) for layer in exemplar_layers(model).values())


def test_layers_of_one_name_are_all_collected(rng):
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.one = ExemplarNormalization(name="n")
            self.two = ExemplarNormalization(name="n")

        def call(self, x, training=False):
            return self.two(self.one(x, training=training), training=training)

    model, x = Twins(), images(rng, (3, 6, 4))
    model(x)
    first, second = collect_ratios(model, x)
    assert second == first + "_1"


def test_errors(rng):
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must be .* with an ExemplarNorm"):
        collect_ratios(plain, images(rng, (2, 4)))
    with pytest.raises(ValueError, match="`data` must be arrays with a sample"):
        collect_ratios(functional(), images(rng, (0, 6, 6, 4)))
    spare = Twice()
    spare.spare = ExemplarNormalization(name="spare")
    spare.spare.build((None, 4))
    spare(images(rng, (2, 6, 4)))
    with pytest.raises(ValueError, match="`layers` .*: .*spare, which does not"):
        collect_ratios(spare, images(rng, (2, 6, 4)))


class Twice(keras.Model):
    """Its layer sees every sample, and then its halves."""

    def __init__(self):
        super().__init__()
        self.norm = ExemplarNormalization(name="norm")

    def call(self, x, training=False):
        x = self.norm(x, training=training)
        return self.norm(keras.ops.reshape(x, (-1, 3, 4)), training=training)


def test_every_call_has_its_rows(rng):
    """Four samples, eight halves."""
    model, x = Twice(), images(rng, (4, 6, 4))
    model(x)
    backends.randomize(model.norm, rng)
    ratios = collect_ratios(model, x, batch_size=3)
    path = model.norm.path
    assert list(ratios) == [path, f"{path}/1"]
    y, first = model.norm(x, return_ratios=True)
    _, second = model.norm(keras.ops.reshape(y, (8, 3, 4)), return_ratios=True)
    np.testing.assert_allclose(ratios[path], numpy(first), atol=1e-6)
    np.testing.assert_allclose(ratios[f"{path}/1"], numpy(second), atol=1e-6)


@keras.saving.register_keras_serializable("tests.collect")
class Cell(keras.layers.Layer):
    """Adds its input to its state."""

    state_size = 4

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = ExemplarNormalization(normalizers=("layer", "batch"), name="norm")

    def build(self, shape):
        self.norm.build((shape[0], 4))

    def call(self, x, states, training=False):
        y = self.norm(x + states[0], training=training)
        return y, [y]


@pytest.mark.parametrize("unroll", [False, True])
def test_steps_of_a_recurrent_layer(rng, unroll):
    rnn = keras.layers.RNN(Cell(), unroll=unroll)
    both = keras.layers.Bidirectional(rnn, merge_mode="sum", name="both")
    model, x = keras.Sequential([keras.Input((3, 4)), both]), images(rng, (5, 3, 4))
    norms = [rnn.cell.norm for rnn in (both.forward_layer, both.backward_layer)]
    for norm in norms:
        backends.randomize(norm, rng)
    ratios = collect_ratios(model, x, batch_size=4)
    assert len(ratios) == 6 and both.forward_layer.unroll is unroll
    keys = iter(ratios)
    for norm in exemplar_layers(model).values():
        state, forward = np.zeros((5, 4)), norm is norms[0]
        for step in [0, 1, 2] if forward else [2, 1, 0]:
            state, expected = norm(x[:, step] + numpy(state), return_ratios=True)
            values = ratios[next(keys)]
            np.testing.assert_allclose(values, numpy(expected), atol=1e-5)


def test_steps_of_time(rng):
    """Each has the samples as rows."""
    norm = ExemplarNormalization(name="norm")
    model = keras.Sequential([keras.Input((3, 4)), keras.layers.TimeDistributed(norm)])
    backends.randomize(norm, rng)
    x = images(rng, (5, 3, 4))
    ratios = collect_ratios(model, x)
    assert list(ratios) == [norm.path, f"{norm.path}/1", f"{norm.path}/2"]
    for step, values in enumerate(ratios.values()):
        _, expected = norm(x[:, step], return_ratios=True)
        np.testing.assert_allclose(values, numpy(expected), atol=1e-6)


@pytest.mark.tensorflow
def test_what_is_traced_has_no_values(rng):
    import tensorflow as tf

    class Traced(Twice):
        call = tf.function(Twice.call)

    model = Traced()
    model(images(rng, (2, 6, 4)))
    with pytest.raises(ValueError, match="unroll=True, .*norm, without values"):
        collect_ratios(model, images(rng, (3, 6, 4)))


def test_classes_and_predictions_of_one_pass(rng, monkeypatch):
    inputs = keras.Input((6, 6, 4))
    norm = ExemplarNormalization(name="norm")
    x = keras.layers.GlobalAveragePooling2D()(norm(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    backends.randomize(norm, rng)
    x, labels = images(rng, (7, 6, 6, 4)), np.array([0, 2, 0, 1, 2, 2, 0])
    calls = []
    original = ExemplarNormalization.call

    def counted(self, *args, **kwargs):
        calls.append(0)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ExemplarNormalization, "call", counted)
    pairs = [(x[:3], labels[:3]), (x[3:], labels[3:])]
    ratios = collect_ratios(model, iter(pairs), class_names=["a", "b", "c"])
    if backends.BACKEND == "tensorflow":
        assert len(calls) == 1, "one trace, whatever the size of a batch"
    np.testing.assert_array_equal(ratios.labels, labels)
    np.testing.assert_array_equal(ratios.predicted, numpy(model(x)).argmax(1))
    expected = numpy(norm(x, return_ratios=True)[1])
    for label, mean in enumerate(ratios.by_class()[:, 0]):
        np.testing.assert_allclose(mean, expected[labels == label].mean(0), atol=1e-6)
    assert ratios.layers[0].size == (6, 6) and ratios.class_name(1) == "b"
    summary = collect_ratios(model, x, labels, samples=False, batch_size=2)
    assert summary.samples is None
    np.testing.assert_allclose(summary.by_class(), ratios.by_class(), atol=1e-6)


def test_ratios_of_samples_on_disk(rng, monkeypatch):
    model, x = functional(), images(rng, (9, 6, 6, 4))
    for layer in exemplar_layers(model).values():
        backends.randomize(layer, rng)
    expected = collect_ratios(model, x)
    monkeypatch.setattr(collect, "LARGE", 40)
    ratios = collect_ratios(model, x, batch_size=2)
    for path, values in ratios.items():
        assert values.dtype == "float16" and isinstance(values.base, np.memmap)
        np.testing.assert_allclose(values, expected[path], atol=1e-3)


def test_switchable_layers_are_constant(rng):
    switch = SwitchableNormalization(initial_ratios={"batch": 0.5}, name="switch")
    norm = ExemplarNormalization(name="norm")
    model = keras.Sequential([keras.Input((6, 6, 4)), switch, norm], name="model")
    ratios = collect_ratios(model, images(rng, (3, 6, 6, 4)), [4, 4, 9])
    assert list(ratios) == ["model/norm", "model/switch/mean", "model/switch/variance"]
    share = [0.25, 0.25, 0.5]
    np.testing.assert_allclose(ratios["model/switch/mean"], [share] * 3, atol=1e-6)
    np.testing.assert_allclose(ratios.by_class()[:, 1], [share] * 2, atol=1e-6)
    assert [layer.constant for layer in ratios.layers] == [False, True, True]
    one = collect_ratios(model, images(rng, (3, 6, 6, 4)), layers=["norm"])
    assert list(one) == ["model/norm"]
    with pytest.raises(ValueError, match="among model/norm, model/switch. .*other"):
        collect_ratios(model, images(rng, (3, 6, 6, 4)), layers=["norm", "other"])


def test_ratios_that_are_not_finite(rng):
    model, x = functional(), images(rng, (5, 6, 6, 4))
    x[3, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite .* in .*first, sample 3"):
        collect_ratios(model, x, batch_size=2)


def test_a_broken_image_says_so(rng):
    def batches():
        yield images(rng, (2, 6, 6, 4))
        raise ValueError("cat.jpg: truncated")

    with pytest.raises(ValueError, match="cat.jpg: truncated"):
        collect_ratios(functional(), batches())
    with pytest.raises(ValueError, match="`data` must be data with a sample"):
        collect_ratios(functional(), iter(()))


@pytest.mark.parametrize("size", [1, 7])
def test_targets_that_are_no_classes(rng, size):
    """Whole numbers in a first batch make no classes of the others."""
    x, y = images(rng, (7, 6, 6, 4)), np.array([3.0, 2.5, 1, 1.2, 2.1, 3, 3])
    model = keras.Sequential([keras.Input((6, 6, 4)), ExemplarNormalization()])
    batches = [(x[i : i + size], y[i : i + size]) for i in range(0, 7, size)]
    ratios = collect_ratios(model, batches)
    assert ratios.labels is None and len(ratios.classes) == len(ratios.counts) == 0
