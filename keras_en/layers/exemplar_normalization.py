"""`ExemplarNormalization`: state, call and configuration."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_en import arguments
from keras_en.arguments import check
from keras_en.layers.normalizer_pool import (
    NormalizerPool,
    again,
    configuration,
    drawing,
    seed_beside,
)
from keras_en.ops.exemplar import ExemplarMixture, ExemplarWeights, is_of_keras
from keras_en.ops.ratios import check_elementwise, resolve_reduction


def _checked_activation(ratio_activation):
    activation = keras.activations.get(ratio_activation)
    if is_of_keras(activation):
        check_elementwise(activation, keras.KerasTensor((1, 8)))
    return activation


@keras.saving.register_keras_serializable(package="keras_en")
class ExemplarNormalization(NormalizerPool):
    """Normalizes each sample with its own mixture of normalizers.

    `y[n] = sum_k gamma_k * lambda[n, k] * (x[n] - mu_k) / sqrt(var_k + epsilon)
    + beta_k`    (Eq. 3)

    `lambda[n] = softmax(W2 f(W1 v[n] + b1) + b2)`, `v[n] = z[n] z[n]^T`,
    `z[n] = conv((mean(x[n]) - mu) / sqrt(var + epsilon))`    (Sec. 3.3)

    - `x`: `(N, spatial..., C)`, the input; `y` has its shape.
    - `k`: one of the `K` entries of `normalizers`; `mu_k`, `var_k`: its mean and
      biased variance, `(N, C)` for "instance", "layer" and "group", `(C,)` for
      "batch".
    - `gamma`, `beta`: `(K, C)`, the scale and offset of each normalizer.
    - `lambda`: `(N, K)`, the important ratios of each sample: in [0, 1], rows sum
      to 1.
    - `mean(x[n])`: `(C,)`, the spatial average; `z`: `(N, K, C / r)`; `v`:
      `(N, K * K)`.

    Some details that matter:

    - As in `keras.layers.BatchNormalization`, training uses the statistics of the
      batch and updates `moving_mean` and `moving_variance`
      (`moving * momentum + batch * (1 - momentum)`); inference uses the moving
      statistics. Instance, layer and group statistics are those of the sample in
      both. `trainable = False` means: moving statistics are used and not updated;
      the ratios stay per-sample.
    - The last dense layer starts at 0, so every ratio starts at exactly `1 / K`
      and all other ratio weights receive gradients from the second step on.
    - The instance row of `z` is 0, since the pooled input is the instance mean.
    - The offsets `beta_k` are added without the ratios (Eq. 3 as printed).
    - Rank-2 input has no instance statistics: the default pool is then
      `("layer", "batch")`.
    - A batch without a single unmasked position leaves the moving statistics as
      they were.

    Arguments up to `synchronized`, and those of `renorm`, have the names, meaning and
    defaults of `keras.layers.BatchNormalization`, whose configuration `from_config`
    takes.

    Args:
        axis: Integer, the channel axis; any but the batch axis. After a
            convolution with `data_format="channels_first"`, use `axis=1`.
        momentum: Momentum of the moving statistics, in [0, 1].
        epsilon: Float added to each variance, at least 1e-20: float32 holds no
            gradients of less where a variance is 0.
        center: If `True`, add the offsets `beta`.
        scale: If `True`, multiply by `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        moving_mean_initializer: Initializer of `moving_mean`.
        moving_variance_initializer: Initializer of `moving_variance`.
        beta_regularizer: Optional regularizer of `beta`.
        gamma_regularizer: Optional regularizer of `gamma`.
        beta_constraint: Optional constraint of `beta`.
        gamma_constraint: Optional constraint of `gamma`.
        synchronized: If `True`, batch statistics are those of the global batch, over
            all replicas of a `tf.distribute` strategy: one all-reduce forward, one
            backward. If `False`, every replica normalizes with those of its own
            part; the moving statistics are those of the global batch all the same,
            and equal in all replicas (one all-reduce forward). On the JAX backend
            arrays are global, and so are statistics under `keras.distribution`,
            whatever this says. Not available on the torch backend.
        normalizers: Non-empty list or tuple without duplicates of "instance",
            "layer", "group" and "batch". `None`: `("instance", "layer", "batch")`.
        groups: Number of groups of the "group" normalizer; must divide `C`.
        reduction: `r`, the reduction rate of the convolution. An integer that
            divides `C`; "auto": the largest divisor of `C` not above
            `min(32, C // 2)`; `None`: no convolution (Table 9b).
        expansion: `pi`, the first dense layer has `pi * K` units (Table 7).
        ratio_head: "correlation" (Sec. 3.3) or "mlp" (Table 9a): two dense layers,
            of `C / r` and `K` units, on the spatial averages.
        ratio_activation: Activation of the first dense layer (Table 9c), element by
            element.
        ratio_initializer: Initializer of the convolution and of the first dense
            kernel. Its seeds leave those of other layers alone: by
            `keras.utils.set_random_seed` a network has the same convolutions with
            `ExemplarNormalization` as with `BatchNormalization`.
        ratio_regularizer: Optional regularizer of the convolution and of both
            dense kernels.
        share_affine: If `True`, a single `gamma` and `beta` of shape `(C,)` for all
            normalizers (Table 9d).
        initial_ratios: Optional dictionary from normalizer to the ratio it starts
            with; the other normalizers share what is left. A ratio of 0 starts at
            1e-8, which no float32 output can tell from 0, and which learns slowly.
        renorm: If `True`, "batch" is corrected in training towards its moving averages
            (Ioffe 2017), for its row of Eq. 3 and of the ratios: `x_hat r + d`.
        renorm_clipping: Optional dictionary of limits: "rmin" and "rmax" of `r`,
            "dmax" of `d` up and down.
        renorm_momentum: Momentum of the averages that training is corrected with.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Dense tensor of numbers or booleans, of rank 2 to 5, up to 1e18: beyond
            it a variance leaves float32, whose range bfloat16 has, too. Statistics and
            ratios are computed in float32 or wider, whatever its dtype.
        training: Boolean, see above.
        mask: Boolean tensor of the shape of `inputs` without its last axis, whatever
            `axis` is, as Keras sends it and `BatchNormalization` reads it. What it
            hides enters no statistic, and is normalized all the same.
        return_ratios: If `True`, return `(outputs, ratios)`.

    Output shape:
        That of `inputs`, in the layer's compute dtype. Ratios: `(N, K)`, columns in
        the order of `normalizers`, float32 or wider.

    Raises:
        ValueError, TypeError: an argument is not among those listed, or does not fit
            the input: `axis`, `groups` or `reduction` against its shape, "instance"
            with rank 2, an undefined number of channels, ragged inputs, a mask of
            another rank. Or the strategy in scope is `ParameterServerStrategy`, or
            XLA compiles the whole step of several replicas.

    Attributes, after `build`:
        pool: The tuple of normalizers in use: what `normalizers=None` stands for, and
            the order of every row and column of size `K`.
        channel_axis: The channel axis, a positive integer.
        resolved_reduction: `r`, what "auto" stands for; `None` without a convolution.

    Weights: `gamma`, `beta`, `moving_mean`, `moving_variance` (with `renorm` also
    `moving_stddev`, `renorm_mean`, `renorm_stddev`), and of the ratio head
    `ratio_conv (C,)`, `ratio_hidden_kernel (K * K, pi * K)`,
    `ratio_hidden_bias (pi * K,)`, `ratio_output_kernel (pi * K, K)`,
    `ratio_output_bias (K,)`: `2 K C + C + Psi(K)` trainable (Table 1).

    Example:

    >>> from keras_en import ExemplarNormalization
    >>> layer = ExemplarNormalization()
    >>> images = keras.ops.zeros((2, 4, 4, 16))
    >>> outputs, ratios = layer(images, return_ratios=True)
    >>> tuple(outputs.shape), tuple(ratios.shape)
    ((2, 4, 4, 16), (2, 3))
    >>> layer.pool
    ('instance', 'layer', 'batch')

    Reference:

    - [Zhang et al., 2020](https://arxiv.org/abs/2003.08761), Exemplar Normalization
      for Learning Deep Representation.
    """

    _weights = ExemplarWeights

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        synchronized: bool = False,
        normalizers: Sequence[str] | None = None,
        groups: int = 32,
        reduction: int | str | None = "auto",
        expansion: int = 50,
        ratio_head: str = "correlation",
        ratio_activation: Any = "tanh",
        ratio_initializer: Any = "glorot_uniform",
        ratio_regularizer: Any = None,
        share_affine: bool = False,
        initial_ratios: dict[str, float] | None = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            axis=axis,
            momentum=momentum,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            synchronized=synchronized,
            normalizers=normalizers,
            groups=groups,
            initial_ratios=initial_ratios,
            renorm=renorm,
            renorm_clipping=renorm_clipping,
            renorm_momentum=renorm_momentum,
            **kwargs,
        )
        self.reduction = arguments.reduction(reduction)
        self.ratio_head = ratio_head
        valid = ratio_head in ("correlation", "mlp")
        check(valid, "ratio_head", '"correlation" or "mlp"', ratio_head)
        valid = reduction is not None or ratio_head == "correlation"
        allowed = 'an integer or "auto" with ratio_head="mlp", which has no convolution'
        check(valid, "reduction", allowed, reduction)
        self.expansion = arguments.integer("expansion", expansion, minimum=1)
        self.ratio_activation = _checked_activation(ratio_activation)
        self._seed = seed_beside(self.name)
        with drawing(self._seed):
            self.ratio_initializer = keras.initializers.get(ratio_initializer)
        self.ratio_regularizer = keras.regularizers.get(ratio_regularizer)
        self.share_affine = share_affine

    def _add_weights(self, channels):
        # As it was made: a model that is built late draws nothing between its layers.
        with drawing(self._seed):
            self._add_all_weights(channels)

    def _add_all_weights(self, channels):
        k = len(self.pool)
        self._add_affine_weights((channels,) if self.share_affine else (k, channels))
        self._add_moving_statistics(channels)
        self.resolved_reduction = resolve_reduction(self.reduction, channels)

        def learned(name, shape, initializer=None):
            initializer = initializer or again(self.ratio_initializer)
            regularizer = self.ratio_regularizer
            return self._add_exact_weight(
                name, shape, initializer, regularizer=regularizer
            )

        self.ratio_conv = None
        if self.ratio_head == "mlp":
            features, units = channels, channels // self.resolved_reduction
        else:
            features, units = k * k, self.expansion * k
            if self.resolved_reduction is not None:
                self.ratio_conv = learned("ratio_conv", (channels,))
        self.ratio_hidden_kernel = learned("ratio_hidden_kernel", (features, units))
        self.ratio_hidden_bias = self._add_exact_weight(
            "ratio_hidden_bias", (units,), "zeros"
        )
        self.ratio_output_kernel = learned("ratio_output_kernel", (units, k), "zeros")
        self.ratio_output_bias = self._add_exact_weight(
            "ratio_output_bias", (k,), self._initial_logits
        )

    def _make_mixture(self, channels):
        return ExemplarMixture(
            self.pool,
            self.groups,
            self.ratio_head,
            self.resolved_reduction,
            self.ratio_activation,
        )

    def call(
        self,
        inputs: Any,
        training: bool | None = None,
        mask: Any = None,
        return_ratios: bool = False,
    ) -> Any:
        outputs, ratios = self._normalized(inputs, mask, training, return_ratios)
        return (outputs, ratios) if return_ratios else outputs

    def compute_output_spec(
        self,
        inputs: Any,
        training: bool | None = None,
        mask: Any = None,
        return_ratios: bool = False,
    ) -> Any:
        outputs = super().compute_output_spec(inputs, training, mask)
        if not return_ratios:
            return outputs
        shape = (inputs.shape[0], len(self.pool))
        return outputs, keras.KerasTensor(shape, dtype=self._statistics_dtype(inputs))

    def get_config(self) -> dict[str, Any]:
        config = configuration(self, ExemplarNormalization)
        config["ratio_activation"] = keras.activations.serialize(self.ratio_activation)
        return {**super().get_config(), **config}
