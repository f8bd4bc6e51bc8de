import numpy as np
import pytest

from keras_en.analysis.running import Layer, Running


def test_two_parts_of_two_classes():
    """Class 3: 0 and 2, mean 1, variance 1. Class 5: 4."""
    running = Running(1)
    running.add(np.array([[0.0], [4.0]]), np.array([3, 5]))
    running.add(np.array([[2.0]]), np.array([3]))
    mean, variance = running.by_class(np.array([3, 5, 7]))
    np.testing.assert_array_equal(mean, [[1], [4], [np.nan]])
    np.testing.assert_array_equal(variance, [[1], [0], [np.nan]])
    total, spread = running.total()
    np.testing.assert_allclose([total[0], spread[0]], [2, np.var([0, 4, 2])])


def test_any_parts_are_as_the_whole(rng):
    """At mean 1e4, deviation 1, where the difference of squares would cancel."""
    values, labels = rng.normal(1e4, 1, (500, 3)), rng.integers(0, 7, 500)
    running = Running(3)
    for part in np.array_split(np.arange(500), 13):
        running.add(values[part], labels[part])
    mean, variance = running.total()
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance, values.var(0), rtol=1e-9)
    means, variances = running.by_class(np.arange(7))
    for label in range(7):
        chosen = values[labels == label]
        np.testing.assert_allclose(means[label], chosen.mean(0), rtol=1e-12)
        np.testing.assert_allclose(variances[label], chosen.var(0), rtol=1e-9)


def test_rows_that_are_no_ratios():
    layer = Layer("block/norm", ("layer", "batch"))
    for value in (np.nan, 0.6, np.inf):
        rows = np.array([[0.5, 0.5], [value, 0.5]])
        with pytest.raises(ValueError, match="sum to 1. .* in block/norm, sample 8"):
            layer.checked(rows, start=7)
    with pytest.raises(ValueError, match=r"ratios \(N, 2\) in block/norm. .*\(2, 3\)"):
        layer.checked(np.ones((2, 3)))
