import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, recalibrate
from keras_en.analysis import simplify
from keras_en.layers import StaticNormalization
from tests import backends
from tests.backends import images, numpy


def network(rng, certain, **kwargs):
    """Two layers; the ratio of a normalizer in `certain` is 1, but for 1e-8, which the
    last bias says; "all" are alike for all samples. The weights of both are random."""
    inputs = keras.Input((6, 6, 4))
    norms = [ExemplarNormalization(name=name, **kwargs) for name in ("one", "two")]
    x = norms[0](inputs)
    x = norms[1](keras.layers.Conv2D(8, 3, use_bias=False)(x))
    x = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x, name="net")
    for norm, name in zip(norms, certain, strict=True):
        backends.randomize(norm, rng)
        strength = 0 if name else 1
        norm.ratio_output_kernel.assign(strength * norm.ratio_output_kernel)
        if name in norm.pool:
            norm.ratio_output_bias.assign([25.0 * (n == name) for n in norm.pool])
    return model


@pytest.mark.parametrize("share_affine", [False, True])
def test_each_layer_becomes_what_it_is(rng, share_affine):
    model = network(rng, ("batch", "all"), share_affine=share_affine)
    x, labels = images(rng, (9, 6, 6, 4)), np.arange(9) % 3
    before = numpy(model(x))
    new, report = simplify(model, x, labels=labels, max_change=1e-4, batch_size=4)
    one, two = new.get_layer("one"), new.get_layer("two")
    assert type(one) is keras.layers.BatchNormalization
    assert type(two) is StaticNormalization
    names = list(report.replaced.values())
    assert "batch" in names and any(name.startswith("instance 0.") for name in names)
    np.testing.assert_allclose(numpy(new(x)), before, atol=1e-5)
    np.testing.assert_allclose(
        report.change, np.abs(numpy(new(x)) - before).max(), atol=1e-6
    )
    accuracy = (before.argmax(1) == labels).mean()
    assert report.accuracy_before == pytest.approx(accuracy) == report.accuracy_after
    assert report.parameters_after < report.parameters_before == model.count_params()
    np.testing.assert_array_equal(numpy(model(x)), before)
    assert "2 layers replaced" in str(report)


def test_what_depends_on_the_sample_stays(rng):
    """Each image has a mean of its own, which the first layer sees."""
    model, x = network(rng, (None, "batch")), images(rng, (4, 6, 6, 4))
    x = x + np.arange(4, dtype="float32")[:, None, None, None] - 1.5
    new, report = simplify(model, x)
    assert [path.rpartition("/")[2] for path in report.replaced] == ["two"]
    assert type(new.get_layer("one")) is ExemplarNormalization
    one = keras.Model(model.input, model.get_layer("one").output, name="net")
    same, report = simplify(one, x)
    assert report.replaced == {} and report.change == 0 and same is one


def test_what_changes_outputs_by_more_is_refused(rng):
    """The ratio of "batch" is .95 in the second layer: within the threshold."""
    model, x = network(rng, ("batch", None)), images(rng, (4, 6, 6, 4))
    second = model.get_layer("two")
    second.ratio_output_kernel.assign(0.05 * numpy(second.ratio_output_kernel))
    second.ratio_output_bias.assign(np.log([0.02, 0.02, 0.96]))
    new, report = simplify(model, x, threshold=0.1, max_change=1e-4)
    assert list(report.replaced) == ["one"] and list(report.refused) == ["two"]
    assert report.change <= 1e-4
    new, report = simplify(model, x, threshold=0.1, max_change=1.0)
    assert list(report.replaced) == ["one", "two"] and report.change > 1e-4
    new, report = simplify(model, x, threshold=0.1, max_change=0)
    assert report.replaced == {} and new is model


def test_errors(rng):
    model = network(rng, (None, None))
    x = images(rng, (4, 6, 6, 4))
    for name, value in {"threshold": 0.6, "max_change": -1}.items():
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            simplify(model, x, **{name: value})
    with pytest.raises(ValueError, match="`data` must be what can be iterated over"):
        simplify(model, iter([x]))


def test_a_file_keeps_the_layers(rng, tmp_path):
    model, x = network(rng, ("all", "all")), images(rng, (4, 6, 6, 4))
    new, _ = simplify(model, x)
    new.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    assert type(again.get_layer("two")) is StaticNormalization
    np.testing.assert_array_equal(numpy(again(x)), numpy(new(x)))


@keras.saving.register_keras_serializable("tests.simplify")
class Encoder(keras.Model):
    """A projection that a step of training alone would run."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        ratios = {"initial_ratios": {"batch": 1.0}}
        self.norm = ExemplarNormalization(name="norm", **ratios)
        self.projection = ExemplarNormalization(name="projection", **ratios)

    def build(self, shape):
        self.norm.build(shape)
        self.projection.build(shape)

    def call(self, x, training=False):
        return self.norm(x, training=training)


def test_a_layer_that_does_not_run_stays(rng):
    model, x = Encoder(name="encoder"), images(rng, (4, 6, 6, 3))
    expected = numpy(model(x))
    new, report = simplify(model, x)
    assert list(report.replaced) == ["encoder/norm"]
    assert report.refused == {"encoder/projection": "does not run"}
    np.testing.assert_allclose(numpy(new(x)), expected, atol=1e-5)
    with pytest.warns(UserWarning, match="does not run encoder/projection, whose"):
        recalibrate(model, x)
    assert numpy(model.projection.moving_mean).any() == 0
