"""`SparseSwitchableNormalization`: Switchable Normalization that ends in a choice."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_en.arguments import check, number
from keras_en.layers.switchable_normalization import SwitchableNormalization
from keras_en.ops import ratios


@keras.saving.register_keras_serializable(package="keras_en")
class SparseSwitchableNormalization(SwitchableNormalization):
    """Switchable Normalization whose ratios become those of a single normalizer.

    `y = gamma * (x - sum_k p_k mu_k) / sqrt(sum_k p'_k var_k + epsilon) + beta`,
    `p = sparsestmax(mean_logits; r)`, `p' = sparsestmax(variance_logits; r)`
    (Shao et al. 2019, Eq. 3 and 4)

    `sparsestmax(z; r)` is the nearest point to `z` among ratios that are at least `r`
    away from equal ones. `keras_en.training.RadiusSchedule`, a callback, raises `r`
    from 0, where any mixture is allowed, to `sqrt((K - 1) / K)`, where each of mean
    and variance has chosen one normalizer.

    Some details that matter:

    - Ratios can be exactly 0. Their logits then receive no gradient, but may come
      back while `r` is small.
    - Two ratios that are left at a radius that binds depend on it alone, and a single
      one on nothing: their logits are no longer learned.
    - A layer starts with equal logits, from which no direction leads to `r > 0`: the
      radius has to be 0 in the first step. A layer that starts with a ratio of 1 has
      chosen, and learns no other.

    Args:
        All those of `SwitchableNormalization`. A ratio of 0 in `initial_ratios` is
        exactly 0.

    Attributes:
        radius: Weight `()`, not trainable, `r`; saved with the layer.

    Weights: those of `SwitchableNormalization`, and `radius`.

    Example:

    >>> from keras_en import SparseSwitchableNormalization
    >>> layer = SparseSwitchableNormalization(initial_ratios={"batch": 1.0})
    >>> outputs = layer(keras.ops.zeros((2, 4, 4, 16)))
    >>> [float(share) for share in layer.ratios()["mean"]]
    [0.0, 0.0, 1.0]

    Reference:

    - [Shao et al., 2019](https://arxiv.org/abs/1903.03793), SSN: Learning Sparse
      Switchable Normalization via SparsestMax.
    """

    _projection: Any = staticmethod(ratios.sparsestmax)

    @staticmethod
    def logits_of(shares: Sequence[float]) -> list[float]:
        # Projected onto the simplex, its points stay where they are.
        return list(shares)

    def _add_weights(self, channels):
        super()._add_weights(channels)
        self.radius = self._add_exact_weight("radius", (), "zeros", trainable=False)

    def set_radius(self, share: float) -> None:
        """Sets the radius to a share, in [0, 1], of the largest one. The layer must be
        built."""
        check(self.built, "layer", "built", self.name, "name")
        share = number("share", share, "in [0, 1]")
        check(0 <= share <= 1, "share", "in [0, 1]", share)
        self.radius.assign(share * ratios.circumradius(len(self.pool)))
