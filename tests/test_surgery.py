"""Surgery: on networks of every kind, and from every normalization to every other."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_en import (
    ExemplarNormalization,
    SwitchableNormalization,
    recalibrate,
    replace_normalization,
)
from keras_en.models import CifarResNet, norms
from tests.backends import images, numpy

SHAPE = (8, 8, 4)
SAME = {"batch": 1.0}


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Holds normalizations as an attribute, in a list and in a dictionary."""

    def __init__(self, filters=4, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 1, name="conv")
        self.first = layers.BatchNormalization(name="first")
        self.steps = [layers.BatchNormalization(name="second"), layers.ReLU()]
        self._named = {"x": layers.BatchNormalization(name="third")}

    def call(self, x, training=None):
        x = self.first(self.conv(x), training=training)
        for step in self.steps:
            x = step(x)
        return self._named["x"](x, training=training)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("tests")
class Late(layers.Layer):
    """Makes its layers when it is built."""

    def build(self, shape):
        self.norm = layers.BatchNormalization(name="norm")
        self.norm.build(shape)

    def call(self, x, training=None):
        return self.norm(x, training=training)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = Block(name="block")
        self.norm = layers.BatchNormalization(name="norm")
        self.out = layers.Dense(2, name="out")

    def call(self, x, training=None):
        x = self.norm(self.block(x, training=training), training=training)
        return self.out(x)


def functional():
    x = inputs = keras.Input(SHAPE, name="images")
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.BatchNormalization(epsilon=0.02, name="bn")(x)
    x = layers.Add(name="add")([x, keras.ops.relu(x)])
    return keras.Model(inputs, layers.Flatten(name="flat")(x), name="functional")


def sequential():
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.Flatten(name="flat"),
            layers.BatchNormalization(name="flat_bn"),
        ],
        name="sequential",
    )


def nested():
    inner = functional()
    shared = layers.BatchNormalization(name="shared")
    inputs = keras.Input(SHAPE, name="images")
    x = layers.Concatenate(name="both")([shared(inputs), shared(inputs * 2.0)])
    x = layers.Flatten(name="flat")(x)
    x = layers.Concatenate(name="all")([x, inner(inputs), sequential()(inputs)])
    return keras.Model(inputs, x, name="nested")


def composite():
    x = inputs = keras.Input(SHAPE, name="images")
    x = Late(name="late")(Block(name="block")(x))
    norm = layers.BatchNormalization(name="norm")
    x = layers.TimeDistributed(norm, name="rows")(x)
    return keras.Model(inputs, x, name="composite")


def subclassed():
    model = Subclassed(name="subclassed")
    model(np.zeros((1, *SHAPE), "float32"))
    return model


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


def randomize(model, rng):
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            low, high = (0.5, 1.5) if "variance" in variable.name else (-1, 1)
            variable.assign(rng.uniform(low, high, tuple(variable.shape)))
    return model


def difference(one, other, x):
    one, other = (numpy(m(x, training=False)) for m in (one, other))
    return np.abs(one - other).max() / np.abs(one).max()


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_with_all_ratio_on_batch_it_is_the_old_network(rng, tmp_path, build):
    model, x = randomize(build(), rng), images(rng, (3, *SHAPE))
    before = [numpy(v) for v in model.variables]
    new, report = replace_normalization(model, initial_ratios=SAME, return_report=True)
    assert sorted(report.replaced) == sorted(NETWORKS[build])
    assert not report.skipped
    assert difference(model, new, x) < 1e-5
    kinds = [type(layer) for layer in new._flatten_layers()]
    assert layers.BatchNormalization not in kinds
    assert kinds.count(ExemplarNormalization) == len(NETWORKS[build])
    assert type(new) is type(model) and new.name == model.name
    names = [[layer.name for layer in m.layers] for m in (model, new)]
    assert names[0] == names[1]
    # The old network is as it was, and shares nothing with the new one.
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)
    assert not {id(v) for v in model.variables} & {id(v) for v in new.variables}

    made = [path for path, text in report.replaced.items() if "no .keras file" in text]
    inside = ("block/", "late/") if build is composite else ("block/", "norm")
    if build in (composite, subclassed):
        assert made == [p for p in report.replaced if p.startswith(inside)]
        new.save_weights(tmp_path / "m.weights.h5")
        again = replace_normalization(randomize(build(), rng))
        again.load_weights(tmp_path / "m.weights.h5")
    else:
        assert not made
        new.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
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


def test_what_a_layer_says_is_carried_over():
    old = keras.layers.BatchNormalization(
        axis=1,
        momentum=0.7,
        epsilon=0.01,
        gamma_regularizer=keras.regularizers.L2(0.5),
        beta_constraint="non_neg",
        synchronized=keras.backend.backend() == "tensorflow",
        dtype="mixed_bfloat16",
        name="bn",
    )
    model = keras.Sequential([keras.Input((6, 5, 5)), old])
    old.trainable = False
    (new,) = replace_normalization(model, expansion=7, groups=3).layers
    assert (new.axis, new.momentum, new.epsilon) == (1, 0.7, 0.01)
    assert new.name == "bn" and new.trainable is False
    assert new.dtype_policy.name == "mixed_bfloat16"
    assert new.synchronized == old.synchronized
    assert new.gamma_regularizer.l2 == 0.5
    assert isinstance(new.beta_constraint, keras.constraints.NonNeg)
    assert new.expansion == 7 and new.groups == 3


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}], ids=str)
def test_without_gamma_or_beta(rng, options):
    norm = keras.layers.BatchNormalization(**options)
    model = randomize(keras.Sequential([keras.Input(SHAPE), norm]), rng)
    for to in {"en", "sn", "sync_bn"} & set(NAMES):
        kwargs = {} if to == "sync_bn" else {"initial_ratios": SAME}
        new = replace_normalization(model, to, **kwargs)
        assert difference(model, new, images(rng, (3, *SHAPE))) < 1e-5


def test_what_is_frozen_stays_frozen():
    model = nested()
    model.get_layer("functional").trainable = False
    model.get_layer("sequential").get_layer("bn").trainable = False
    new = replace_normalization(model)
    flags = [
        {layer.name: layer.trainable for layer in m._flatten_layers()}
        for m in (model, new)
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


NAMES = [n for n in norms.NAMES if n != "sync_bn" or keras.backend.backend() != "torch"]


@pytest.mark.parametrize("to", NAMES)
@pytest.mark.parametrize("source", NAMES)
def test_every_normalization_to_every_other(rng, source, to):
    # 48 channels: 24 groups, which is neither one nor one a channel.
    x = images(rng, (4, 5, 5, 48))
    norm = norms.normalization(source, 48, name="n")
    model = randomize(keras.Sequential([keras.Input(x.shape[1:]), norm]), rng)
    if source == to:
        with pytest.raises(ValueError, match="to replace by .*Received: .*normaliz"):
            replace_normalization(model, to)
        return
    new, report = replace_normalization(model, to, return_report=True)
    lost = report.replaced["n"]
    moves, moved = source not in GROUPED, to not in GROUPED
    assert ("start anew" in lost) == (moved and not moves)
    assert ("statistics dropped" in lost) == (moves and not moved)
    assert ("ratios dropped" in lost) == (source in MIXED and to not in MIXED)
    assert np.isfinite(numpy(new(x))).all()
    (layer,) = new.layers
    gamma = numpy(layer.gamma)
    if source not in MIXED or source in ("sn", "ssn"):
        np.testing.assert_array_equal(gamma, np.broadcast_to(norm.gamma, gamma.shape))
    beta = numpy(layer.beta)
    old = numpy(norm.beta)
    both = [b.sum(axis=0) if b.ndim == 2 else b for b in (old, beta)]
    np.testing.assert_allclose(*both, rtol=1e-6)
    if moves and moved:
        np.testing.assert_array_equal(numpy(layer.moving_mean), numpy(norm.moving_mean))


GROUPED, MIXED = ("gn", "in", "ln"), ("en", "sn", "ssn")


@pytest.mark.parametrize(
    "source, own", [("in", "instance"), ("ln", "layer"), ("gn", "group")]
)
def test_a_network_without_a_batch_starts_as_what_it_is(rng, source, own):
    norm = norms.normalization(source, 4, **({"groups": 2} if own == "group" else {}))
    model = randomize(keras.Sequential([keras.Input(SHAPE), norm]), rng)
    pool = ("instance", "layer", "group", "batch")
    new = replace_normalization(
        model, normalizers=pool, groups=2, initial_ratios={own: 1.0}
    )
    x = images(rng, (3, *SHAPE))
    assert difference(model, new, x) < 1e-5
    (layer,) = replace_normalization(model, normalizers=pool, groups=2).layers
    _, shares = layer(x, return_ratios=True)
    shares = dict(zip(pool, numpy(shares)[0], strict=True))
    assert shares[own] == pytest.approx(0.9, rel=1e-5)


def test_ratios_travel_between_mixtures(rng):
    norm = ExemplarNormalization(initial_ratios={"batch": 0.5, "layer": 0.2})
    model = keras.Sequential([keras.Input(SHAPE), norm])
    (switch,) = replace_normalization(model, "sn").layers
    for shares in switch.ratios().values():
        np.testing.assert_allclose(numpy(shares), [0.3, 0.2, 0.5], rtol=1e-5)
    back = keras.Sequential([keras.Input(SHAPE), switch])
    (again,) = replace_normalization(back, "en").layers
    _, shares = again(images(rng, (2, *SHAPE)), return_ratios=True)
    np.testing.assert_allclose(numpy(shares)[0], [0.3, 0.2, 0.5], rtol=1e-5)


def test_from_batch_to_a_switch_and_back_is_the_old_network(rng):
    model, x = randomize(functional(), rng), images(rng, (3, *SHAPE))
    switch = replace_normalization(model, "sn", initial_ratios=SAME)
    assert difference(model, switch, x) < 1e-5
    back = replace_normalization(switch, "bn")
    assert difference(model, back, x) < 1e-6


def test_a_class_and_a_function(rng):
    model = randomize(functional(), rng)
    new = replace_normalization(model, keras.layers.UnitNormalization)
    assert isinstance(new.get_layer("bn"), keras.layers.UnitNormalization)
    new = replace_normalization(
        model, lambda axis, name: SwitchableNormalization(axis, name=name)
    )
    layer = new.get_layer("bn")
    np.testing.assert_array_equal(
        numpy(layer.moving_mean), numpy(model.get_layer("bn").moving_mean)
    )


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


@keras.saving.register_keras_serializable("tests")
class Standard(layers.Layer):
    """Builds its layers in `build`, as Keras recommends."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4, name="dense")
        self.norm = layers.BatchNormalization(name="norm")

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((*shape[:-1], 4))

    def call(self, x, training=None):
        return self.norm(self.dense(x), training=training)


@keras.saving.register_keras_serializable("tests")
class StandardModel(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Equal names, as of three blocks of a kind.
        self.parts = [Standard(name="part") for _ in range(3)]

    def build(self, shape):
        for part in self.parts:
            part.build(shape)

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x, training=training)
        return x


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
    kept = [x for x in new._flatten_layers() if isinstance(x, ExemplarNormalization)]
    assert all(type(x).build.__name__ == x.build.__name__ for x in kept)


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

    found = gammas(old)
    assert len(found) == 3 and gammas(replace_normalization(old)) == found


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


def test_between_layers_of_a_kind_nothing_is_lost(rng):
    for norm in (ExemplarNormalization(), SwitchableNormalization()):
        model = randomize(keras.Sequential([keras.Input(SHAPE), norm]), rng)
        to = "en" if isinstance(norm, ExemplarNormalization) else "sn"
        x = images(rng, (3, *SHAPE))
        # Selected, although it is one already: only epsilon changes.
        new = replace_normalization(model, to, select=lambda layer: True)
        assert difference(model, new, x) == 0
    sparse, report = replace_normalization(model, "ssn", return_report=True)
    assert difference(model, sparse, x) < 1e-5
    assert list(report.replaced.values()) == [
        "SwitchableNormalization -> SparseSwitchableNormalization"
    ]
    assert difference(model, replace_normalization(sparse, "sn"), x) < 1e-5


def test_groups_are_carried(rng):
    norm = keras.layers.GroupNormalization(2)
    model = randomize(keras.Sequential([keras.Input((5, 5, 64)), norm]), rng)
    new = replace_normalization(
        model, normalizers=("group", "batch"), initial_ratios={"group": 1.0}
    )
    assert difference(model, new, images(rng, (3, 5, 5, 64))) < 1e-5


@keras.saving.register_keras_serializable("tests")
class Spare(layers.Layer):
    """Has a layer that it does not call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")
        self.spare = layers.BatchNormalization(name="spare")

    def call(self, x):
        return self.norm(x)


@pytest.mark.filterwarnings("ignore:.build\\(\\). was called on layer")
def test_layers_that_were_never_called():
    _, report = replace_normalization(of(Spare(name="s")), return_report=True)
    assert list(report.replaced) == ["s/norm"]
    assert report.skipped == {"s/spare": "never called"}


class Strange(keras.layers.BatchNormalization):
    pass


class Unsaved(layers.Layer):
    def __init__(self, thing, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x):
        return self.norm(x)


class Lost(layers.Layer):
    """Keeps layers with weights in a tuple."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")
        self.pair = (layers.Dense(4, name="dense"),)

    def call(self, x):
        return self.norm(self.pair[0](x))


class Parametric(keras.Model):
    def __init__(self, *args, alpha=0.1, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha


class Hidden(layers.Layer):
    """Keeps its layer where nobody else can put another."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norms = (layers.BatchNormalization(name="norm"),)

    def call(self, x):
        return self.norms[0](x)


def of(layer):
    return keras.Sequential([keras.Input(SHAPE), layer])


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
        "without subclasses .* Received: .*strange, Strange",
        of(Strange(name="strange")),
    )
    refused("renorm=True", of(layers.BatchNormalization(renorm=True)))
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
    outputs = layers.BatchNormalization()(inputs)
    parametric = Parametric(inputs, outputs, alpha=0.7, name="p")
    refused(r"constructor of keras.Model.* Received: .*p, of class Param", parametric)
    refused("`initial_ratios` must be None for 'gn'", model, "gn", initial_ratios=SAME)
    refused(r"`norm_kwargs` must be .*\['axis'\]", model, axis=1)
    wrong = dict(nonsense=3)
    refused("nonsense", model, error=(ValueError, TypeError), **wrong)


def test_of_a_network_with_our_layers_only_other_settings_are_not_news():
    with pytest.raises(ValueError, match="replace by 'en'"):
        replace_normalization(CifarResNet(8), "en", expansion=3)
