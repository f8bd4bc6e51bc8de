"""Switchable Normalization in NumPy float64: the oracle for it and its sparse variant.

    y = gamma * (x - sum_k w_k mu_k) / sqrt(sum_k w'_k var_k + epsilon) + beta

(Luo et al. 2019; Eq. 2 of Zhang et al. 2020). One static vector of ratios for the
means and one for the variances, w = F(mean_logits) and w' = F(variance_logits):

    x     (N, spatial..., C)    gamma, beta  (C,)    w, w'  (K,)
    F     softmax, or sparsestmax of a given radius (Shao et al. 2019)

As in `reference`, every mean and biased variance is taken directly from the input
over its own axes, and everything is holomorphic, for the complex step.
"""

import functools
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tests import reference
from tests.reference import double, softmax, statistics

# Far above the rounding of a ratio, far below any ratio or radius a test can tell.
ROUNDING = 1e-12


class Result(NamedTuple):
    outputs: np.ndarray  # the shape of x
    mean_ratios: np.ndarray  # (K,)
    variance_ratios: np.ndarray  # (K,)
    batch_mean: np.ndarray  # (C,)
    batch_variance: np.ndarray  # (C,)


def _radius(p):
    return np.sqrt(np.sum((p - 1.0 / p.shape[-1]) ** 2, axis=-1))


def sparsemax(z):
    """The nearest point to z (K,) of the simplex: max(z - tau, 0), which sums to 1."""
    z = z - z.real.max()  # the simplex is orthogonal to this shift
    largest = np.sort(z.real)[::-1]
    # 1 = sum_k max(z_k - tau, 0) >= sum of the s largest - s tau, for every s, with
    # equality where s is the size of the support: tau is the largest of these bounds.
    tau = np.max((np.cumsum(largest) - 1.0) / np.arange(1, z.size + 1))
    support = z.real > tau
    return np.where(support, z - (z[support].sum() - 1.0) / support.sum(), 0.0)


def sparsestmax(z, radius):
    """The nearest point to z of {p : p >= 0, sum p = 1, ||p - u|| >= radius}.

        p = sparsemax(t z),  the smallest t >= 1 with ||sparsemax(t z) - u|| >= radius

    z, p, u = (1/K, ..., 1/K): (K,). If sparsemax(z) is feasible it is the answer. If
    not, the answer lies on the sphere (farther out it would be a local, so the global,
    minimum of a convex problem: sparsemax(z)). There ||p|| is constant: the nearest
    point maximizes p.z. Over the simplex within the ball this is a convex problem, with
    KKT conditions z - (p - u)/t = constant - multipliers of p >= 0, those of
    sparsemax(t z). Hence the p on the sphere among these, unique for a finite t, is
    the maximum within the ball, so on the sphere. ||sparsemax(t z) - u|| grows with t.

    If the s largest of z tie and the sphere lies beyond the center of their face,
    radius^2 > 1/s - 1/K, several points are nearest and no t is enough. The limit of
    large t is returned, constant and not feasible: 1/s each. With s = K that is u.
    """
    z = double(z)
    k = z.size
    if not 0.0 <= radius <= np.sqrt((k - 1) / k) + ROUNDING:
        raise ValueError(f"No point of the simplex is so far. Received: {radius}")
    z = z - z.real.max()
    if _radius(sparsemax(z).real) >= radius:
        return sparsemax(z)
    if np.all(z.real == 0.0):
        return np.full(k, 1.0 / k)
    # From this t on only the largest, or its ties, are in the support.
    low, high = 1.0, max(1.0, 1.0 / np.min(-z.real[z.real < 0.0]))
    while low < (middle := (low + high) / 2.0) < high:
        if _radius(sparsemax(middle * z.real)) >= radius:
            high = middle
        else:
            low = middle
    # Bisection has no derivative. On the support it found, p_S is affine in z_S and
    # its distance is known, which determines it: a formula that is holomorphic in z.
    support = sparsemax(high * z.real) > ROUNDING
    s = support.sum()
    p = np.zeros(k, z.dtype)
    p[support] = 1.0 / s
    if np.ptp(z.real[support]) > 0.0:
        centered = z[support] - z[support].mean()
        rho = np.sqrt(max(radius**2 + 1.0 / k - 1.0 / s, 0.0))
        p[support] += rho * centered / np.sqrt(np.sum(centered**2))
    return p


def brute_force_sparsestmax(z, radius, steps=40, rounds=60, candidates=500):
    """The feasible candidate nearest to real z (K,), K <= 4: a grid over the simplex,
    then random steps from the best so far, shorter in every round."""
    rng, k = np.random.default_rng(0), len(z)
    # Stars and bars: all (K,) of nonnegative integers which sum to `steps`.
    bars = np.array(list(combinations(range(steps + k - 1), k - 1)))
    edges = np.pad(
        bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, steps + k - 1))
    )
    points, scale = (np.diff(edges, axis=1) - 1) / steps, 1.0 / steps
    for _ in range(rounds):
        feasible = (points.min(axis=1) >= 0.0) & (_radius(points) >= radius - ROUNDING)
        points = points[feasible]
        best = points[np.argmin(np.sum((points - z) ** 2, axis=1))]
        noise = rng.normal(scale=scale, size=(candidates, k))
        # Half of them stay on the face of the best, which random steps leave.
        noise[::2, best == 0.0] = 0.0
        points = np.maximum(best + noise, 0.0)
        points /= points.sum(axis=1, keepdims=True)
        # Each also moved along its own face onto the sphere, which they would miss.
        centers = (points > 0.0) / np.sum(points > 0.0, axis=1, keepdims=True)
        off = points - centers
        squares = np.maximum(radius**2 - _radius(centers) ** 2, 0.0)
        squares /= np.maximum(np.sum(off**2, axis=1), ROUNDING)
        points = np.vstack([best, points, centers + np.sqrt(squares)[:, None] * off])
        scale *= 0.8
    return best


def _ratios(weights, name, k, radius):
    if k == 1:
        if name in weights:
            raise ValueError(f"One normalizer has no logits. Received: {name}")
        return np.ones(1)
    logits = weights[name]
    # A (1,) array, or (K, 1), would broadcast to a plausible, wrong answer.
    if logits.shape != (k,):
        raise ValueError(f"{name} must be {(k,)}. Received: {logits.shape}")
    return softmax(logits) if radius is None else sparsestmax(logits, radius)


def switchable_normalization(
    x,
    weights,
    *,
    axis=-1,
    normalizers=("instance", "layer", "batch"),
    epsilon=1e-3,
    groups=32,
    mask=None,
    batch_statistics=None,
    radius=None,
):
    """Eq. 2 on `x`: batch first, channels at `axis`, rank 2 to 5.

    Args:
        weights: arrays by name: `gamma`, `beta` (C,), either may be missing;
            `mean_logits`, `variance_logits` (K,), in the order of `normalizers`,
            both missing if K = 1, where the ratios are 1.
        mask: None, or booleans in x's shape without the channels. Statistics see
            True positions only; all positions are normalized.
        batch_statistics: None to use this batch's own (training), or the pair
            (moving_mean, moving_variance) to use instead (inference, frozen).
        radius: None for softmax ratios, or that of sparsestmax.
    """
    weights = {name: double(w) for name, w in weights.items()}
    x, _, omega, batch = statistics(
        x, axis, normalizers, groups, mask, batch_statistics
    )
    c, k = x.shape[-1], len(normalizers)
    means, variances = zip(*omega, strict=True)

    mean_ratios = _ratios(weights, "mean_logits", k, radius)
    variance_ratios = _ratios(weights, "variance_logits", k, radius)
    # (N or 1, 1..., C or 1), whatever the normalizers: they broadcast.
    mean = sum(w * mu for w, mu in zip(mean_ratios, means, strict=True))
    variance = sum(w * var for w, var in zip(variance_ratios, variances, strict=True))

    gamma, beta = weights.get("gamma", np.ones(c)), weights.get("beta", np.zeros(c))
    for name, weight in (("gamma", gamma), ("beta", beta)):
        if weight.shape != (c,):
            raise ValueError(f"{name} must be {(c,)}. Received: {weight.shape}")
    outputs = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
    return Result(
        np.moveaxis(outputs, -1, axis),
        mean_ratios,
        variance_ratios,
        *batch,
    )


gradients = functools.partial(
    reference.gradients, normalization=switchable_normalization
)
