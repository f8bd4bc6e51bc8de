import numpy as np
import pytest

from keras_en.analysis import Ratios, layers_to_freeze, measures
from keras_en.analysis.running import Layer
from tests.analysis import samples

TWO = ("layer", "batch")


def of(*values, labels=None):
    layers = [Layer(f"net/{name}", TWO) for name in "abc"[: len(values)]]
    return Ratios.of(layers, [np.array(v) for v in values], labels)


def test_spread_by_hand():
    """Classes with means .2 and .6, one and three samples."""
    values = [[0.2, 0.8], [0.5, 0.5], [0.6, 0.4], [0.7, 0.3]]
    spread = measures.spread(of(values, labels=[0, 1, 1, 1]))
    within = 2 * 0.75 * np.var([0.5, 0.6, 0.7])
    between = 2 * np.var([0.2, 0.6, 0.6, 0.6])
    np.testing.assert_allclose(spread.within**2, within)
    np.testing.assert_allclose(spread.between**2, between)
    np.testing.assert_allclose(spread.total**2, within + between)
    assert np.isnan(measures.spread(of(values)).within).all()


def test_entropy_by_hand():
    even, one = [[0.5, 0.5]] * 2, [[1.0, 0.0], [0.0, 1.0]]
    np.testing.assert_allclose(measures.entropy(of(even, one)), [1, 0], atol=1e-12)
    single = Ratios.of([Layer("n", ("batch",))], [np.ones((2, 1))])
    assert measures.entropy(single) == [0]


def test_layers_to_freeze():
    static, moving = [[0.3, 0.7]] * 2, [[0.3, 0.7], [0.35, 0.65]]
    assert layers_to_freeze(of(static, moving)) == ["net/a"]
    assert layers_to_freeze(of(static, moving), 0.025001) == ["net/a", "net/b"]
    with pytest.raises(ValueError, match="`threshold` must be at least 0"):
        layers_to_freeze(of(static), -1)


def test_separability():
    apart = of(
        [[0.1, 0.9], [0.11, 0.89]] * 4 + [[0.9, 0.1]] * 8, labels=[0] * 8 + [1] * 8
    )
    value = measures.separability(apart)
    assert (value.accuracy, value.chance, value.samples) == (1, 0.5, 16)
    assert value.silhouette > 0.9
    alone = measures.separability(of([[0.1, 0.9], [0.2, 0.8]], labels=[0, 1]))
    assert alone.accuracy == 0 and np.isnan(alone.silhouette)
    one = measures.separability(of([[0.1, 0.9], [0.2, 0.8]], labels=[3, 3]))
    assert (one.accuracy, one.chance) == (1, 1) and np.isnan(one.silhouette)
    noise = samples.ratios(samples=600, scale=0)
    value = measures.separability(noise)
    assert abs(value.accuracy - value.chance) < 0.1, "nothing to tell them by"


def test_most_and_least_typical():
    values = [[0.5, 0.5], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]]
    order = measures.by_typicality(of(values, labels=[1, 1, 1, 4]))
    assert {k: v.tolist() for k, v in order.items()} == {1: [2, 1, 0], 4: [3]}


def test_names_of_layers():
    assert measures.short_names(samples.ratios(layers=2)) == ["block0", "block1"]
    assert measures.short_names(of([[0.5, 0.5]])) == ["a"]
