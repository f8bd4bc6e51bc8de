"""Eq. 2 folded: one mixture of statistics for all samples."""

import functools
import operator
from typing import Any, NamedTuple

from keras import ops

from keras_en.ops import moments


class SwitchableWeights(NamedTuple):
    """The weights of the layer, in one dtype, by its names for them.

    - `gamma`, `beta`: `(C,)`, or `None`.
    - `mean_logits`, `variance_logits`: `(K,)`; `None` for a single normalizer.
    - `radius`: `()`, or `None` where ratios do not depend on one.
    """

    gamma: Any
    beta: Any
    mean_logits: Any
    variance_logits: Any
    radius: Any


class SwitchableMixture(NamedTuple):
    """How a layer mixes; fixed when it is built.

    `y[n] = x[n] a[n] + b[n]`, with `a = gamma / sqrt(sum_k w'_k var_k + epsilon)` and
    `b = beta - a sum_k w_k mu_k`.

    - `pool`: tuple of `K` normalizers.
    - `projection`: function of logits `(K,)`, and of the radius if there is one, to
      ratios `(K,)`.
    """

    pool: tuple
    groups: int
    projection: Any

    @property
    def pure(self) -> bool:
        # `projection` is one of `ops.ratios`, without state.
        return True

    def fold(self, statistics, weights, epsilon, training=False, count=None):
        """Scale and shift of each sample, and `None` for ratios of its own.

        Args:
            statistics: `moments.Statistics`, in the dtype of the weights.
            weights: `SwitchableWeights`.
            epsilon: Positive float.
            training: Not used; as in `ExemplarMixture.fold`.
            count: See `moments.statistics_of`.

        Returns:
            `a` and `b`, `(N, C)`, and `None`.
        """

        def of(name):
            return moments.statistics_of(name, statistics, self.groups, count)

        means, variances = zip(*map(of, self.pool), strict=True)
        zero = ops.zeros_like(statistics.mean)
        mean = self._mixed(means, weights.mean_logits, weights.radius) + zero
        variance = self._mixed(variances, weights.variance_logits, weights.radius)
        a = ops.rsqrt(variance + epsilon) + zero
        if weights.gamma is not None:
            a = a * weights.gamma
        b = -(mean * a)
        if weights.beta is not None:
            b = b + weights.beta
        return a, b, None

    def _mixed(self, values, logits, radius):
        if logits is None:
            return values[0]
        radius = () if radius is None else (radius,)
        shares = ops.unstack(self.projection(logits, *radius))
        terms = (share * value for share, value in zip(shares, values, strict=True))
        return functools.reduce(operator.add, terms)
