"""From every normalization to every other: what is kept, what is said to be lost."""

import keras
import numpy as np
import pytest

from keras_en import (
    ExemplarNormalization,
    SwitchableNormalization,
    replace_normalization,
)
from keras_en.analysis import collect_ratios
from keras_en.models import CifarResNet, norms
from tests.backends import images, numpy
from tests.networks import SHAPE, difference, functional, randomize

NAMES = [n for n in norms.NAMES if n != "sync_bn" or keras.backend.backend() != "torch"]
GROUPED, MIXED = ("gn", "in", "ln"), ("en", "sn", "ssn")
SAME = {"batch": 1.0}


def test_from_a_mixture_to_batch_normalization():
    """Ratios 1/2 each: gamma is the mean of rows, beta their sum."""
    norm = ExemplarNormalization(normalizers=("layer", "batch"), name="n")
    model = keras.Sequential([keras.Input((2, 2, 1)), norm])
    norm.gamma.assign([[1.0], [3.0]])
    norm.beta.assign([[4.0], [5.0]])
    new, report = replace_normalization(model, "bn", return_report=True)
    gamma, beta, mean, variance = new.get_layer("n").get_weights()
    np.testing.assert_allclose([gamma, beta, mean, variance], [[2], [9], [0], [1]])
    kind = "ExemplarNormalization -> BatchNormalization"
    assert report.replaced == {"n": f"{kind}, ratios dropped"}


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


def test_of_a_network_with_our_layers_only_other_settings_are_not_news():
    with pytest.raises(ValueError, match="replace by 'en'"):
        replace_normalization(CifarResNet(8), "en", expansion=3)


def test_heads_differ_and_come_again_by_seed():
    """Nothing is drawn between the layers of a conversion."""

    def heads():
        keras.utils.set_random_seed(4)
        layers = [keras.Input((6, 6, 4))]
        for _ in range(3):
            layers += [keras.layers.Conv2D(4, 1), keras.layers.BatchNormalization()]
        new = replace_normalization(keras.Sequential(layers))
        return [numpy(new.layers[i].ratio_hidden_kernel) for i in (1, 3, 5)]

    first, again = heads(), heads()
    for here, there in zip(first, again, strict=True):
        np.testing.assert_array_equal(here, there)
    assert len({head.tobytes() for head in first}) == 3


def test_constraints_stay_along_the_channels():
    inputs = keras.Input((4, 4, 6))
    norm = keras.layers.BatchNormalization(gamma_constraint="unit_norm")
    model = keras.Model(inputs, norm(inputs))
    norm.gamma.assign([0.5] * 4 + [0, 0])
    new = replace_normalization(model, initial_ratios={"batch": 1.0})
    (layer,) = (v for v in new.layers if isinstance(v, ExemplarNormalization))
    values = layer.gamma_constraint(layer.gamma.value)
    np.testing.assert_allclose(numpy(values)[0], [0.5] * 4 + [0, 0], rtol=1e-5)


def test_a_penalty_of_more_rows_is_said():
    """Of gamma alone: beta is in one row, the others are 0."""
    norm = keras.layers.BatchNormalization(
        gamma_regularizer="l2", beta_regularizer="l2", name="bn"
    )
    model = keras.Sequential([keras.Input((4, 4, 2)), norm])
    rows = ", gamma_regularizer counts 3 rows"
    for share_affine, text in ((False, rows), (True, "")):
        _, report = replace_normalization(
            model, share_affine=share_affine, return_report=True
        )
        start = "BatchNormalization -> ExemplarNormalization"
        assert report.replaced == {"bn": start + text}


def test_old_and_new_are_used_in_turn(rng):
    """On JAX a prediction or a step gives arrays away, which no two may share."""
    x, norm = images(rng, (4, 6, 6, 3)), keras.layers.BatchNormalization
    for first in (norm, ExemplarNormalization):
        layers = [keras.layers.Conv2D(4, 3), first(name="norm"), keras.layers.Flatten()]
        old = keras.Sequential([keras.Input((6, 6, 3)), *layers])
        new = replace_normalization(old, select="norm")
        before = old.predict(x, verbose=0)
        new.compile("sgd", "mse")
        new.fit(x, np.zeros_like(before), verbose=0)
        np.testing.assert_array_equal(old.predict(x, verbose=0), before)
        assert (new.predict(x, verbose=0) != before).any()


@pytest.mark.parametrize("name", ["en", "sn"])
def test_ratios_that_are_asked_for_of_a_layer_of_the_same_kind(rng, name):
    norm = norms.normalization(name, 3, name="norm")
    model = keras.Sequential([keras.Input((4, 4, 3)), norm])
    randomize(model, rng)
    new = replace_normalization(
        model, name, select="norm", initial_ratios={"instance": 1.0}
    )
    ratios = collect_ratios(new, images(rng, (2, 4, 4, 3))).mean()
    for row in ratios:
        np.testing.assert_allclose(row, [1, 0, 0], atol=1e-6)
    old, other = model.layers[0], new.layers[0]
    np.testing.assert_array_equal(numpy(other.gamma), numpy(old.gamma))
    np.testing.assert_array_equal(numpy(other.moving_mean), numpy(old.moving_mean))


@pytest.mark.tensorflow
def test_weights_that_quantization_added(rng):
    x, layers = images(rng, (2, 8)), keras.layers
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8), layers.BatchNormalization()]
    )
    model.layers[0].quantize("float8")
    new = replace_normalization(model, initial_ratios={"batch": 1.0})
    np.testing.assert_allclose(numpy(new(x)), numpy(model(x)), atol=1e-5)
