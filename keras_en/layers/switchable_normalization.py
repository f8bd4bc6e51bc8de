"""`SwitchableNormalization`: state, call and configuration."""

from typing import Any

import keras
from keras import ops

from keras_en.arguments import check
from keras_en.layers.normalizer_pool import NormalizerPool
from keras_en.ops import ratios
from keras_en.ops.switchable import SwitchableMixture, SwitchableWeights

LOGITS = ("mean_logits", "variance_logits")


@keras.saving.register_keras_serializable(package="keras_en")
class SwitchableNormalization(NormalizerPool):
    """Normalizes with one mixture of statistics, learned, the same for all samples.

    `y = gamma * (x - sum_k w_k mu_k) / sqrt(sum_k w'_k var_k + epsilon) + beta`
    (Eq. 2 of Zhang et al. 2020, with ratios of their own for mean and variance)

    `w = softmax(mean_logits)`, `w' = softmax(variance_logits)`    (Luo et al. 2019)

    - `x`: `(N, spatial..., C)`, the input; `y` has its shape.
    - `k`: one of the `K` entries of `normalizers`; `mu_k`, `var_k`: its mean and
      biased variance, as in `ExemplarNormalization`.
    - `gamma`, `beta`: `(C,)`. `w`, `w'`: `(K,)`, in [0, 1], each summing to 1.

    Training, inference, freezing, masks and replicas are as in
    `ExemplarNormalization`. With one normalizer there is nothing to mix and there are
    no logits: `SwitchableNormalization(normalizers=("batch",), synchronized=True)` is
    synchronized batch normalization, with the weights of
    `keras.layers.BatchNormalization` and neither its cancelling variance nor its three
    collectives a layer.

    Args:
        axis, momentum, epsilon, center, scale, ..., synchronized: As in
            `ExemplarNormalization`, in the same order.
        normalizers: As in `ExemplarNormalization`.
        groups: Number of groups of the "group" normalizer; must divide `C`.
        initial_ratios: Optional dictionary from normalizer to the ratio, of mean and
            variance, that it starts with; the others share what is left. `None`:
            `1 / K` each. A ratio of 0 starts at 1e-8.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs, training, mask: As in `ExemplarNormalization`.

    Output shape:
        That of `inputs`, in the layer's compute dtype.

    Raises:
        ValueError, TypeError: As in `ExemplarNormalization`.

    Attributes:
        pool: After `build`, the tuple of normalizers in use.

    Weights: `gamma`, `beta`, `moving_mean`, `moving_variance`, `mean_logits (K,)`,
    `variance_logits (K,)`: `2 C + 2 K` trainable (Table 1).

    Example:

    >>> from keras_en import SwitchableNormalization
    >>> layer = SwitchableNormalization(normalizers=("instance", "batch"))
    >>> outputs = layer(keras.ops.zeros((2, 4, 4, 16)))
    >>> [round(float(share), 2) for share in layer.ratios()["mean"]]
    [0.5, 0.5]

    Reference:

    - [Luo et al., 2019](https://arxiv.org/abs/1806.10779), Differentiable
      Learning-to-Normalize via Switchable Normalization.
    """

    _weights = SwitchableWeights
    _projection: Any = staticmethod(ratios.switch_softmax)

    def _add_weights(self, channels):
        self._add_affine_weights((channels,))
        self._add_moving_statistics(channels)
        self.mean_logits = self.variance_logits = self.radius = None
        if len(self.pool) > 1:
            self.mean_logits, self.variance_logits = (
                self._add_exact_weight(name, (len(self.pool),), self._initial_logits)
                for name in LOGITS
            )

    def ratios(self) -> dict[str, Any]:
        """The ratios that the layer has learned, the same for all samples.

        Returns:
            Dictionary with "mean" and "variance", tensors `(K,)` in the order of
            `pool`.
        """
        check(self.built, "layer", "built", self.name, "name")
        if len(self.pool) == 1:
            one = ops.ones((1,), dtype=self.variable_dtype)
            return dict.fromkeys(("mean", "variance"), one)
        radius = () if self.radius is None else (self.radius.value,)
        return {
            name.removesuffix("_logits"): self._projection(
                getattr(self, name).value, *radius
            )
            for name in LOGITS
        }

    def _make_mixture(self, channels):
        return SwitchableMixture(self.pool, self.groups, self._projection)
