"""`StaticNormalization`: what Exemplar Normalization is when all samples are alike."""

import keras
from keras import ops

from keras_en.layers.normalizer_pool import NormalizerPool
from keras_en.ops.ratios import complete_shares
from keras_en.ops.static import StaticMixture, StaticWeights


@keras.saving.register_keras_serializable(package="keras_en")
class StaticNormalization(NormalizerPool):
    """Normalizes with one mixture of normalized values, the same for all samples.

    `y = sum_k gamma_k * (x - mu_k) / sqrt(var_k + epsilon) + beta`

    - `x`: `(N, spatial..., C)`, the input; `y` has its shape.
    - `k`: one of the `K` entries of `normalizers`; `mu_k`, `var_k`: its mean and
      biased variance, as in `ExemplarNormalization`.
    - `gamma`: `(K, C)`; `beta`: `(C,)`.

    This is Eq. 3 with ratios that no sample decides, multiplied into `gamma`, and with
    the sum of its offsets: no head computes ratios. `keras_en.analysis.simplify` puts
    it in the place of layers that have become so. A `SwitchableNormalization` mixes
    statistics, which is something else.

    Args:
        axis, momentum, epsilon, ..., synchronized: As in `ExemplarNormalization`, but
            for `center` and `scale`: there is always a `gamma` and a `beta`.
        normalizers, groups: As in `ExemplarNormalization`.
        initial_ratios: Optional dictionary from normalizer to the ratio that its row of
            `gamma` starts with; the others share what is left. `None`: `1 / K` each.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs, training, mask: As in `ExemplarNormalization`.

    Attributes:
        pool: After `build`, the tuple of normalizers in use.

    Weights: `gamma`, `beta`, `moving_mean`, `moving_variance`.

    Example:

    >>> from keras_en.layers import StaticNormalization
    >>> layer = StaticNormalization(normalizers=("instance", "batch"))
    >>> outputs = layer(keras.ops.zeros((2, 4, 4, 16)))
    >>> tuple(layer.gamma.shape), float(layer.gamma[0, 0])
    ((2, 16), 0.5)
    """

    _weights = StaticWeights

    def _add_weights(self, channels):
        shares = complete_shares(self.initial_ratios or {}, self.pool)

        def gamma(shape, dtype=None):
            column = ops.convert_to_tensor(shares, dtype)[:, None]
            return ops.broadcast_to(column, shape)

        shape = (len(self.pool), channels)
        self.gamma = self._add_affine_weight("gamma", shape, gamma)
        self.beta = self._add_affine_weight("beta", (channels,))
        self._add_moving_statistics(channels)

    def _make_mixture(self, channels):
        return StaticMixture(self.pool, self.groups)
