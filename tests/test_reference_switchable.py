"""The oracle of `reference_switchable` against searches and the plainest NumPy."""

import numpy as np
import pytest

from tests.reference_switchable import (
    brute_force_sparsestmax,
    gradients,
    sparsemax,
    sparsestmax,
    switchable_normalization,
)


def farthest(k):
    return np.sqrt((k - 1) / k)


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6, 0.8, 0.95, 1.0])
def test_sparsestmax_is_the_nearest_feasible_point(rng, k, fraction):
    radius = fraction * farthest(k)
    for scale in (0.1, 1.0):
        z = rng.normal(scale=scale, size=k)
        p, searched = sparsestmax(z, radius), brute_force_sparsestmax(z, radius)
        assert p.min() >= 0.0
        np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-12)
        assert np.linalg.norm(p - 1 / k) >= radius - 1e-12
        assert np.linalg.norm(p - z) <= np.linalg.norm(searched - z) + 1e-12
        np.testing.assert_allclose(p, searched, atol=1e-6)


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_sparsestmax_at_both_ends(rng, k):
    z = rng.normal(size=k)
    one_hot = np.eye(k)[z.argmax()]
    np.testing.assert_allclose(sparsestmax(z, farthest(k)), one_hot, atol=1e-12)
    np.testing.assert_array_equal(sparsestmax(z, 0.0), sparsemax(z))


def test_sparsestmax_where_the_nearest_point_is_not_unique():
    np.testing.assert_array_equal(sparsestmax(np.ones(4), 0.5), np.full(4, 0.25))
    beyond = np.sqrt(1 / 2 - 1 / 3) + 0.1
    np.testing.assert_allclose(sparsestmax([1, 1, 0], beyond), [0.5, 0.5, 0.0])


@pytest.mark.parametrize(
    ("normalizer", "axes"),
    [("instance", (1, 2)), ("layer", (1, 2, 3)), ("batch", (0, 1, 2)), ("group", None)],
)
def test_one_normalizer_is_that_normalization(rng, normalizer, axes):
    x, gamma, beta = rng.normal(size=(3, 4, 5, 6)), *rng.normal(size=(2, 6))
    split = x if axes else x.reshape(3, 4, 5, 2, 3)
    axes = axes or (1, 2, 4)
    mean, var = (f(split, axis=axes, keepdims=True) for f in (np.mean, np.var))
    plain = ((split - mean) / np.sqrt(var + 1e-3)).reshape(x.shape) * gamma + beta
    actual = switchable_normalization(
        np.moveaxis(x, -1, 1),
        {"gamma": gamma, "beta": beta},
        axis=1,
        normalizers=(normalizer,),
        groups=2,
    )
    np.testing.assert_allclose(np.moveaxis(actual.outputs, 1, -1), plain, atol=1e-12)
    np.testing.assert_array_equal(
        [*actual.mean_ratios, *actual.variance_ratios], [1, 1]
    )
    np.testing.assert_allclose(actual.batch_variance, x.var(axis=(0, 1, 2)))


def test_means_and_variances_have_their_own_ratios(rng):
    x = rng.normal(size=(4, 5, 6))
    weights = {"mean_logits": np.log([0.2, 0.8]), "variance_logits": np.log([0.7, 0.3])}
    moving = rng.normal(size=6), rng.uniform(1.0, 2.0, size=6)
    actual = switchable_normalization(
        x, weights, normalizers=("layer", "batch"), batch_statistics=moving
    )
    mean = 0.2 * x.mean(axis=(1, 2), keepdims=True) + 0.8 * moving[0]
    variance = 0.7 * x.var(axis=(1, 2), keepdims=True) + 0.3 * moving[1]
    np.testing.assert_allclose(actual.outputs, (x - mean) / np.sqrt(variance + 1e-3))


# Softmax; sparsemax, the radius inactive; the sphere, with 4, 3, 2 and 1 of the 4.
@pytest.mark.parametrize("radius", [None, 0.1, 0.35, 0.5, 0.7, farthest(4)])
def test_complex_step_equals_central_differences(rng, radius):
    x, cotangent = rng.normal(size=(2, 3, 2, 4, 5))[:, :, 0]
    weights = {
        "gamma": rng.normal(size=5),
        "beta": rng.normal(size=5),
        "mean_logits": np.array([0.3, 0.0, 0.1, 0.2]),
        "variance_logits": np.array([0.1, 0.25, -0.1, 0.0]),
    }
    mask = rng.uniform(size=(3, 4)) < 0.8
    four = ("instance", "layer", "group", "batch")
    options = {"normalizers": four, "groups": 5, "mask": mask}
    dx, derivatives = gradients(x, weights, cotangent, radius=radius, **options)
    for name, derivative in {"x": dx, **derivatives}.items():
        for index in np.ndindex(derivative.shape):
            losses = []
            for step in (1e-5, -1e-5):
                inputs = {k: v.copy() for k, v in {"x": x, **weights}.items()}
                inputs[name][index] += step
                result = switchable_normalization(
                    inputs.pop("x"), inputs, radius=radius, **options
                )
                losses.append(np.sum(result.outputs * cotangent))
            difference = (losses[0] - losses[1]) / 2e-5
            np.testing.assert_allclose(derivative[index], difference, atol=1e-7)
