"""Eq. 3 with the same ratios for all samples, folded."""

from typing import Any, NamedTuple

from keras import ops

from keras_en.ops import moments


class StaticWeights(NamedTuple):
    """The weights of the layer, in one dtype, by its names for them.

    - `gamma`: `(K, C)`, ratios included. `beta`: `(C,)`.
    """

    gamma: Any
    beta: Any


class StaticMixture(NamedTuple):
    """How a layer mixes; fixed when it is built.

    `y[n] = x[n] a[n] + b[n]`, with `a = sum_k gamma_k / sqrt(var_k + epsilon)` and
    `b = beta + sum_k gamma_k (m - mu_k) / sqrt(var_k + epsilon) - m a`, around the
    instance mean `m`, as `exemplar.ExemplarMixture` has it.
    """

    pool: tuple
    groups: int

    @property
    def pure(self) -> bool:
        # There is no function of a user's.
        return True

    def fold(self, statistics, weights, epsilon, training=False, count=None):
        """Scale and shift of each sample, and `None` for ratios of its own.

        Args:
            statistics: `moments.Statistics`, in the dtype of the weights.
            weights: `StaticWeights`.
            epsilon: Positive float.
            training: Not used; as in `ExemplarMixture.fold`.
            count: See `moments.statistics_of`.

        Returns:
            `a` and `b`, `(N, C)`, and `None`.
        """
        m = statistics.mean
        a = b = ops.zeros_like(m)
        for name, gamma in zip(self.pool, ops.unstack(weights.gamma), strict=True):
            mean, variance = moments.statistics_of(name, statistics, self.groups, count)
            scale = gamma * ops.rsqrt(variance + epsilon)
            a = a + scale
            if name != "instance":  # Its mean is m.
                b = b + scale * (m - mean)
        return a, b - m * a + weights.beta, None
