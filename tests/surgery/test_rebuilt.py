"""Files of layers whose code makes other normalizations than they have."""

import copy
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import ExemplarNormalization, replace_normalization
from keras_en.keras_private import layers_of
from tests.backends import images, numpy
from tests.networks import Late, composite, difference, randomize, subclassed

register = keras.saving.register_keras_serializable("tests.rebuilt")


@register
class Norm(layers.Layer):
    """A number that its configuration has, and a normalization."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
        self.bn = layers.BatchNormalization(name="bn")

    def build(self, shape):
        self.bn.build(shape)

    def call(self, x, training=False):
        return self.factor * self.bn(x, training=training)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@register
class Outer(layers.Layer):
    """Has the layers that a function makes, and the same one twice."""

    def __init__(self, kind="norm", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.inner = INNER[kind]()
        self.both = [self.inner]

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x, training=False):
        x = self.inner(x, training=training)
        return self.both[0](x, training=training)


class Untold(Norm):
    """Its configuration does not have the number."""

    def get_config(self):
        return layers.Layer.get_config(self)


def graph():
    inputs = keras.Input((3,))
    return keras.Model(inputs, Norm(2.0)(layers.BatchNormalization()(inputs)))


INNER = {
    "norm": lambda: Norm(2.0),
    "untold": lambda: Untold(3.0),
    "outer": lambda: Outer("untold"),
    "late": lambda: Late(),
    "sequential": lambda: keras.Sequential(
        [layers.Dense(3), layers.BatchNormalization(), Norm(3.0)]
    ),
    "built": lambda: keras.Sequential([keras.Input((3,)), Norm(), layers.Dense(3)]),
    "graph": graph,
}


def network(*parts):
    return keras.Sequential([keras.Input((3,)), *parts])


def surgery(model, rng, *args, **kwargs):
    randomize(model, rng)
    new, report = replace_normalization(model, *args, return_report=True, **kwargs)
    assert not report.rebuilt_by_code
    return new


def again(model, tmp_path):
    model.save(tmp_path / "m.keras")
    return keras.models.load_model(tmp_path / "m.keras")


def assert_equal(one, other, x):
    assert [type(a).__name__ for a in layers_of(one)] == [
        type(a).__name__ for a in layers_of(other)
    ]
    outputs = (numpy(m(x, training=False)) for m in (one, other))
    np.testing.assert_array_equal(*outputs)


def test_the_configuration_has_an_entry_more(rng):
    old = Norm(4.0, name="layer")
    layer = surgery(network(old), rng).layers[0]
    assert isinstance(layer, Norm) and type(layer).__name__ == "Norm"
    config = layer.get_config()
    entry = config.pop("keras_en_surgery")
    assert config == old.get_config()
    ((place, saved),) = entry["normalizations"]
    assert place == ["bn"] and saved["class_name"] == "ExemplarNormalization"
    new = type(layer).from_config(layer.get_config())
    assert new.factor == 4.0 and isinstance(new.bn, ExemplarNormalization)


@pytest.mark.thorough(4)
@pytest.mark.parametrize("kind", INNER)
def test_a_file_keeps_them_wherever_code_makes_them(rng, tmp_path, kind):
    model, x = network(Outer(kind)), images(rng, (4, 3))
    new = surgery(model, rng, normalizers=("batch",))
    assert difference(model, new, x) < 1e-5
    assert isinstance(new.layers[0], Outer)
    loaded = again(new, tmp_path)
    assert_equal(loaded, new, x)
    assert loaded.layers[0].both[0] is loaded.layers[0].inner
    # A copy, and a file of what was loaded.
    assert_equal(again(loaded, tmp_path), new, x)
    clone = keras.models.clone_model(loaded)
    clone.set_weights(new.get_weights())
    assert_equal(clone, new, x)


@register
class Strict(Norm):
    """Adds to its shape, which has to be a tuple; a file has lists."""

    def build(self, shape):
        self.bn.build(shape[:-1] + (3,))


def test_a_layer_that_adds_to_its_shape(rng, tmp_path):
    new = surgery(network(Strict()), rng)
    assert_equal(again(new, tmp_path), new, images(rng, (4, 3)))


# Keras's, of every file with a layer that has no `build`.
@pytest.mark.filterwarnings("ignore:.build\\(\\). was called on layer")
@pytest.mark.parametrize("build", [composite, subclassed])
def test_surgery_of_surgery(rng, tmp_path, build):
    """In part, of the same class with other arguments, and back."""
    model, x = build(), images(rng, (3, 8, 8, 4))
    one = surgery(model, rng, select="third", to="gn")
    two = surgery(one, rng, normalizers=("layer", "batch"))
    assert_equal(again(two, tmp_path), two, x)
    other = {"select": lambda layer: True, "normalizers": ("batch",)}
    three = surgery(again(two, tmp_path), rng, **other)
    assert_equal(again(three, tmp_path), three, x)
    back = surgery(three, rng, "bn")
    assert_equal(again(back, tmp_path), back, x)


def test_what_was_set_later_is_saved(rng, tmp_path):
    new = surgery(network(Norm(name="n")), rng)
    new.layers[0].bn.trainable = False
    loaded = again(new, tmp_path)
    assert not loaded.layers[0].bn.trainable and not loaded.trainable_variables


def test_training_goes_on(rng, tmp_path):
    new = surgery(network(Norm(2.0)), rng, normalizers=("batch",))
    x = images(rng, (4, 3))
    new.compile("adam", "mse")
    y = 0 * numpy(new(x))
    new.train_on_batch(x, y)
    loaded = again(new, tmp_path)
    for model in (new, loaded):
        model.train_on_batch(x, y)
    np.testing.assert_allclose(numpy(loaded(x)), numpy(new(x)), atol=1e-6)


def test_copies_of_python(rng):
    new, x = surgery(subclassed(), rng), images(rng, (2, 8, 8, 4))
    for other in (copy.deepcopy(new), pickle.loads(pickle.dumps(new))):
        assert_equal(other, new, x)


def test_classes_that_are_not_registered(rng, tmp_path):
    class Local(Norm):
        pass

    new, x = surgery(network(Local(2.0)), rng), images(rng, (3, 3))
    new.save(tmp_path / "m.keras")
    with pytest.raises(TypeError, match="Could not locate class 'Local'"):
        keras.models.load_model(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", {"Local": Local})
    assert_equal(loaded, new, x)


@register
class Lazy(keras.Model):
    """Makes a layer when it is called first."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.bn = layers.Dense(3), None

    def call(self, x, training=False):
        if self.bn is None:
            self.bn = layers.BatchNormalization(name="bn")
        return self.bn(self.dense(x), training=training)


def test_what_no_file_keeps_is_said(rng):
    model = Lazy(name="lazy")
    model(images(rng, (2, 3)))
    _, report = replace_normalization(model, return_report=True)
    assert report.rebuilt_by_code == {"bn": "Lazy"}
    text = "which no .keras file keeps: it is made by the code of Lazy"
    assert text in str(report)


READ = """
import sys
import keras, keras_en, numpy as np, tests.surgery.test_rebuilt
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], keras.ops.convert_to_numpy(model(np.load(sys.argv[2]))))
"""


@pytest.mark.slow
def test_a_process_of_its_own(rng, tmp_path):
    parts = [Outer("sequential"), layers.Dense(3), Norm(2.0)]
    new, x = surgery(network(*parts), rng), images(rng, (3, 3))
    new.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", x)
    files = [tmp_path / name for name in ("m.keras", "x.npy", "y.npy")]
    subprocess.run([sys.executable, "-c", READ, *files], check=True)
    np.testing.assert_array_equal(np.load(files[-1]), numpy(new(x)))
