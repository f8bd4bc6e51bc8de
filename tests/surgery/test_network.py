"""Surgery on networks of every kind; see `test_transplant.py` for the layers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import ExemplarNormalization, recalibrate, replace_normalization
from keras_en.keras_private import layers_of
from keras_en.surgery import Report
from tests.backends import images, numpy
from tests.networks import (
    SHAPE,
    Hidden,
    Lost,
    OwnCall,
    Spare,
    StandardModel,
    Strange,
    Unsaved,
    composite,
    difference,
    functional,
    nested,
    of,
    randomize,
    sequential,
    subclassed,
)

SAME = {"batch": 1.0}


def test_a_network_of_one_normalization():
    """Gamma is copied to each of the three rows; beta, whose rows are added, to one."""
    bn = layers.BatchNormalization(name="bn")
    model = keras.Sequential([keras.Input((2, 2, 1)), bn])
    # gamma, beta, mean, variance
    bn.set_weights(np.array([[5], [7], [2], [4]], "float32"))
    new, report = replace_normalization(model, return_report=True)
    norm = new.get_layer("bn")
    assert norm.pool == ("instance", "layer", "batch")
    np.testing.assert_array_equal(numpy(norm.gamma), [[5], [5], [5]])
    np.testing.assert_array_equal(numpy(norm.beta), [[0], [0], [7]])
    assert numpy(norm.moving_mean) == 2 and numpy(norm.moving_variance) == 4
    assert report.replaced == {"bn": "BatchNormalization -> ExemplarNormalization"}


def test_a_report_in_print():
    report = Report(
        {"a": "X -> Y"}, {"conv": 2}, {"b": "not selected"}, {"a": "Block"}, {}
    )
    assert str(report).splitlines() == [
        "1 layers replaced, 1 copied, 1 normalizations left",
        "  replaced a: X -> Y, which no .keras file keeps: "
        "it is made by the code of Block",
        "  skipped b: not selected",
    ]


NETWORKS = {
    functional: ["bn"],
    sequential: ["bn", "flat_bn"],
    nested: ["shared", "functional/bn", "sequential/bn", "sequential/flat_bn"],
    composite: [
        "block/first",
        "block/second",
        "block/third",
        "late/norm",
        "rows/norm",
    ],
    subclassed: ["block/first", "block/second", "block/third", "norm"],
}


# Keras's, of every file with a layer that has no `build`.
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.build\\(\\). was called on layer")
@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_with_all_ratio_on_batch_it_is_the_old_network(rng, tmp_path, build):
    model, x = randomize(build(), rng), images(rng, (3, *SHAPE))
    before = [numpy(v) for v in model.variables]
    new, report = replace_normalization(model, initial_ratios=SAME, return_report=True)
    assert sorted(report.replaced) == sorted(NETWORKS[build])
    assert not report.skipped
    assert difference(model, new, x) < 1e-5
    kinds = [type(layer) for layer in layers_of(new)]
    assert layers.BatchNormalization not in kinds
    assert kinds.count(ExemplarNormalization) == len(NETWORKS[build])
    assert isinstance(new, type(model)) and new.name == model.name
    names = [[layer.name for layer in m.layers] for m in (model, new)]
    assert names[0] == names[1]
    # The old network is as it was, and shares nothing with the new one.
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)
    assert not {id(v) for v in model.variables} & {id(v) for v in new.variables}

    assert not report.rebuilt_by_code
    new.save_weights(tmp_path / "m.weights.h5")
    same = replace_normalization(randomize(build(), rng))
    same.load_weights(tmp_path / "m.weights.h5")
    new.save(tmp_path / "m.keras")
    for again in (same, keras.models.load_model(tmp_path / "m.keras")):
        np.testing.assert_array_equal(
            numpy(again(x, training=False)), numpy(new(x, training=False))
        )
    new.compile("sgd", "mse")
    assert np.isfinite(new.train_on_batch(x, numpy(new(x, training=False)) * 0))


def test_with_most_ratio_on_batch_it_starts_close(rng):
    model, x = randomize(functional(), rng), images(rng, (3, *SHAPE))
    recalibrate(model, images(rng, (64, *SHAPE)))
    new = replace_normalization(model)
    equal = replace_normalization(model, initial_ratios={"batch": 1 / 3})
    near = difference(model, new, x)
    assert 1e-4 < near < 0.3 * difference(model, equal, x)


def test_what_is_frozen_stays_frozen():
    model = nested()
    model.get_layer("functional").trainable = False
    model.get_layer("sequential").get_layer("bn").trainable = False
    new = replace_normalization(model)
    flags = [
        {layer.name: layer.trainable for layer in layers_of(m)} for m in (model, new)
    ]
    assert flags[0] == flags[1] and False in flags[0].values()


def test_a_fixed_mode_and_masks_stay(rng):
    """`layer(x, training=False)` is part of a graph."""
    inputs = keras.Input((5, 4))
    x = layers.Masking()(inputs)
    x = layers.BatchNormalization(name="bn")(x, training=False)
    model = randomize(keras.Model(inputs, x), rng)
    new = replace_normalization(model, initial_ratios=SAME)
    x = images(rng, (3, 5, 4))
    x[0, 3:] = 0
    np.testing.assert_allclose(
        numpy(new(x, training=True)), numpy(model(x, training=True)), atol=1e-5
    )


def test_selection(rng):
    for select in (
        ["functional/bn", "shared"],
        lambda layer: layer.name == "shared" or layer.epsilon == 0.02,
    ):
        model = nested()
        new, report = replace_normalization(
            model, select=select, initial_ratios=SAME, return_report=True
        )
        assert sorted(report.replaced) == ["functional/bn", "shared"]
        assert report.skipped == dict.fromkeys(
            ["sequential/bn", "sequential/flat_bn"], "not selected"
        )
        text = str(report)
        assert "replaced shared: BatchNormalization -> ExemplarNormalization" in text
        assert "skipped sequential/bn: not selected" in text


def test_arguments_that_the_new_layer_has_not(rng):
    """A graph calls BatchNormalization with a mask and a mode, others have neither."""
    inputs = keras.Input((5, 4))
    x = layers.Masking()(inputs)
    x = layers.BatchNormalization(name="bn")(x, training=False)
    new = replace_normalization(keras.Model(inputs, x), "ln")
    assert np.isfinite(numpy(new(images(rng, (3, 5, 4))))).all()


def test_it_is_not_compiled_and_asks_for_no_loss(rng):
    """A function that Keras could not find by its name."""
    model = functional()
    model.compile("sgd", lambda y, z: keras.ops.mean(y - z))
    new = replace_normalization(model)
    assert model.compiled and not new.compiled


def test_random_state_is_copied(rng):
    inputs = keras.Input(SHAPE)
    x = layers.Dropout(0.5, seed=3)(layers.BatchNormalization()(inputs))
    model = keras.Model(inputs, x)
    x = images(rng, (3, *SHAPE))
    model(x, training=True)  # the state is no longer that of the seed
    new = replace_normalization(model, initial_ratios=SAME)
    for m in (model, new):
        m.layers[1].trainable = False
    np.testing.assert_allclose(
        numpy(new(x, training=True)), numpy(model(x, training=True)), atol=1e-6
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["MobileNetV2", "DenseNet121"])
def test_an_application(rng, name):
    """All of them: `benchmarks/applications.py`."""
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    x = images(rng, (2, 32, 32, 3))
    new, report = replace_normalization(model, initial_ratios=SAME, return_report=True)
    assert len(report.replaced) == {"MobileNetV2": 52, "DenseNet121": 121}[name]
    assert difference(model, new, x) < 1e-4


@pytest.mark.parametrize("kind", ["in a graph", "a model"])
def test_layers_with_a_build_of_their_own(rng, kind):
    model = StandardModel()
    model.build((None, *SHAPE))
    model(np.zeros((1, *SHAPE), "float32"))
    if kind == "in a graph":
        inputs = keras.Input(SHAPE)
        model = keras.Model(inputs, model(inputs))
    randomize(model, rng)
    new, report = replace_normalization(model, initial_ratios=SAME, return_report=True)
    assert len(report.replaced) == 3 and len(report.copied) == 3
    assert difference(model, new, images(rng, (3, *SHAPE))) < 1e-5
    assert len(replace_normalization(model, select="norm").trainable_variables) == (
        len(new.trainable_variables)
    )
    # Each can be built anew afterwards.
    norms = [x for x in layers_of(new) if isinstance(x, ExemplarNormalization)]
    assert all(type(x).build.__name__ == x.build.__name__ for x in norms)


def test_what_a_layer_computes_when_it_loads(rng):
    norm = layers.Normalization(axis=-1)
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.BatchNormalization()(norm(inputs)))
    x = images(rng, (8, *SHAPE)) * 5 + 2
    norm.adapt(x)
    new = replace_normalization(model, initial_ratios=SAME)
    assert difference(model, new, x) < 1e-5


@pytest.mark.tensorflow
def test_what_only_assets_hold(rng):
    inputs = keras.Input((4,), dtype="int64")
    lookup = layers.IntegerLookup(vocabulary=[3, 5, 7])
    x = layers.Embedding(8, 4)(lookup(inputs))
    model = randomize(keras.Model(inputs, layers.BatchNormalization()(x)), rng)
    new = replace_normalization(model, initial_ratios=SAME)
    assert difference(model, new, np.array([[3, 5, 7, 9]])) < 1e-5


@pytest.mark.tensorflow
def test_what_tensorflow_tracks(rng, tmp_path):
    import tensorflow as tf

    old = randomize(composite(), rng)

    def gammas(model):
        path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
        return {n for n, _ in tf.train.list_variables(path) if "/gamma/" in n}

    names = gammas(old)
    assert len(names) == 3 and gammas(replace_normalization(old)) == names


@pytest.mark.tensorflow
def test_it_stays_in_its_strategy(rng, strategy):
    with strategy.scope():
        model = functional()
    new = replace_normalization(model)
    assert new.distribute_strategy is strategy
    assert len(new.get_layer("bn").gamma.value.values) > 1
    with strategy.scope():
        new = replace_normalization(functional())
    assert new.distribute_strategy is strategy


def test_frozen_layers_that_are_shared(rng):
    shared = layers.BatchNormalization(name="shared", trainable=False)
    a = keras.Input(SHAPE)
    inner = keras.Model(a, layers.ReLU()(shared(a)), name="inner")
    inputs = keras.Input(SHAPE)
    bn = layers.BatchNormalization(name="bn")
    model = keras.Model(inputs, bn(inner(shared(inputs))))
    new = replace_normalization(model)
    assert not new.get_layer("shared").trainable and new.get_layer("bn").trainable


@pytest.mark.filterwarnings("ignore:.build\\(\\). was called on layer")
def test_layers_that_were_never_called():
    _, report = replace_normalization(of(Spare(name="s")), return_report=True)
    assert list(report.replaced) == ["s/norm"]
    assert report.skipped == {"s/spare": "never called"}


def test_what_cannot_be_replaced():
    def refused(match, model, *args, error=ValueError, **kwargs):
        before = None
        if isinstance(model, keras.Model) and model.built:
            before = [numpy(v) for v in model.variables]
        with pytest.raises(error, match=match):
            replace_normalization(model, *args, **kwargs)
        if before is not None:
            for variable, value in zip(model.variables, before, strict=True):
                np.testing.assert_array_equal(numpy(variable), value)

    model = functional()
    refused("`model` must be a keras.Model that is built", "network")
    refused("`model` must be a keras.Model that is built", keras.Sequential())
    refused(r"`to` must be one of \('en', .* Received: to='xn'", model, "xn")
    refused(
        r"`select` must be .*\['bn'\]. Received: select=\['cn'\]", model, select="cn"
    )
    refused("normalizations to replace", of(layers.Dense(2)))
    refused("normalizations to replace", model, select=[])
    refused("`to` must be one of .* Received: to=None", model, None)
    refused("`select` must be .* Received: select=3", model, select=3, error=TypeError)
    refused(
        "without subclasses .* Received: strange, of class Strange",
        of(Strange(name="strange")),
    )
    refused("Layer `bn`: .*`reduction` must divide", model, reduction=4)
    refused("Layer `bn`: .*`initial_ratios` may name", model, initial_ratios={"b": 1})
    refused(
        r"their `get_config`.* Received: unsaved, of class Unsaved",
        of(Unsaved(object(), name="unsaved")),
    )
    refused(
        r"attributes of their layers.*=\['hidden/norm'\]", of(Hidden(name="hidden"))
    )
    rank6 = keras.Sequential(
        [keras.Input((2, 2, 2, 2, 3)), layers.BatchNormalization()]
    )
    refused("Layer `.*`: .*rank 2 to 5", rank6)
    refused(r"not_copied=\['.*lost/dense/kernel", of(Lost(name="lost")))
    inputs = keras.Input(SHAPE)
    own_call = OwnCall(inputs, layers.BatchNormalization()(inputs), name="g")
    refused("the call of keras.Model. Received: g, of class OwnCall", own_call)
    refused("`initial_ratios` must be None for 'gn'", model, "gn", initial_ratios=SAME)
    refused(r"`norm_kwargs` must be .*\['axis'\]", model, axis=1)
    wrong = dict(nonsense=3)
    refused("nonsense", model, error=(ValueError, TypeError), **wrong)
