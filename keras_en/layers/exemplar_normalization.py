"""`ExemplarNormalization`: state, call and configuration."""

import keras
from keras import ops

from keras_en import affine, arguments, moments, ratios, replicas
from keras_en.arguments import check


@keras.saving.register_keras_serializable(package="keras_en")
class ExemplarNormalization(keras.layers.Layer):
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

    Args:
        axis: Integer, the channel axis; any but the batch axis. After a
            convolution with `data_format="channels_first"`, use `axis=1`.
        momentum: Momentum of the moving statistics, in [0, 1].
        epsilon: Positive float added to each variance.
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
            all replicas of a `tf.distribute` strategy. On the JAX backend arrays
            are global and so are their statistics, whatever this says. Not
            available on the torch backend.
        normalizers: Non-empty list or tuple without duplicates of "instance",
            "layer", "group" and "batch". `None`: `("instance", "layer", "batch")`.
        groups: Number of groups of the "group" normalizer; must divide `C`.
        reduction: `r`, the reduction rate of the convolution. An integer that
            divides `C`; "auto": the largest divisor of `C` not above
            `min(32, C // 2)`; `None`: no convolution (Table 9b).
        expansion: `pi`, the first dense layer has `pi * K` units (Table 7).
        ratio_head: "correlation" (Sec. 3.3) or "mlp" (Table 9a): two dense layers,
            of `C / r` and `K` units, on the spatial averages.
        ratio_activation: Activation of the first dense layer (Table 9c).
        ratio_initializer: Initializer of the convolution and of the first dense
            kernel.
        ratio_regularizer: Optional regularizer of the convolution and of both
            dense kernels.
        share_affine: If `True`, a single `gamma` and `beta` of shape `(C,)` for all
            normalizers (Table 9d).
        initial_ratios: Optional dictionary from normalizer to the ratio it starts
            with; the other normalizers share what is left. A ratio of 0 starts at
            1e-8, which no float32 output can tell from 0, and which learns slowly.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Float tensor of rank 2 to 5. Statistics and ratios are computed in
            float32 or wider, whatever its dtype.
        training: Boolean, see above.
        mask: Boolean tensor of the shape of `inputs` without the channel axis.
            Positions where it is `False` enter no statistic; they are normalized
            all the same.
        return_ratios: If `True`, return `(outputs, ratios)`.

    Output shape:
        That of `inputs`, in the layer's compute dtype. Ratios: `(N, K)`, columns in
        the order of `normalizers`, float32 or wider.

    Raises:
        ValueError, TypeError: an argument is not among those listed, or does not fit
            the input: `axis`, `groups` or `reduction` against its shape, "instance"
            with rank 2, an undefined number of channels, integer inputs, a mask of
            another rank.

    Attributes:
        pool: After `build`, the tuple of normalizers in use: what `normalizers=None`
            stands for, and the order of every row and column of size `K`.

    Weights: `gamma`, `beta`, `moving_mean`, `moving_variance`, and of the ratio head
    `ratio_conv (C,)`, `ratio_hidden_kernel (K * K, pi * K)`,
    `ratio_hidden_bias (pi * K,)`, `ratio_output_kernel (pi * K, K)`,
    `ratio_output_bias (K,)`: `2 K C + C + Psi(K)` trainable (Table 1).

    Reference:

    - [Zhang et al., 2020](https://arxiv.org/abs/2003.08761), Exemplar Normalization
      for Learning Deep Representation.
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        synchronized=False,
        normalizers=None,
        groups=32,
        reduction="auto",
        expansion=50,
        ratio_head="correlation",
        ratio_activation="tanh",
        ratio_initializer="glorot_uniform",
        ratio_regularizer=None,
        share_affine=False,
        initial_ratios=None,
        **kwargs,
    ):
        # Half-precision inputs arrive as they are: cast to the policy's dtype and
        # then to float32, they would be rounded twice.
        super().__init__(autocast=False, **kwargs)
        self.axis = arguments.integer("axis", axis, not_zero="the batch axis")
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(
            moving_variance_initializer
        )
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.synchronized = synchronized
        self.normalizers = arguments.pool(normalizers)
        self.groups = arguments.integer("groups", groups, minimum=1)
        self.reduction = reduction
        self.expansion = arguments.integer("expansion", expansion, minimum=1)
        self.ratio_head = ratio_head
        self.ratio_activation = keras.activations.get(ratio_activation)
        self.ratio_initializer = keras.initializers.get(ratio_initializer)
        self.ratio_regularizer = keras.regularizers.get(ratio_regularizer)
        self.share_affine = share_affine
        self.initial_ratios = initial_ratios
        self.supports_masking = True
        self._check_arguments()

    def _check_arguments(self):
        check(0 <= self.momentum <= 1, "momentum", "in [0, 1]", self.momentum)
        check(self.epsilon > 0, "epsilon", "positive", self.epsilon)
        check(
            not self.synchronized or keras.backend.backend() != "torch",
            "synchronized",
            "False on the torch backend",
            self.synchronized,
        )
        check(
            self.ratio_head in ("correlation", "mlp"),
            "ratio_head",
            '"correlation" or "mlp"',
            self.ratio_head,
        )
        if isinstance(self.reduction, str):
            check(
                self.reduction == "auto",
                "reduction",
                'a positive integer, "auto" or None',
                self.reduction,
            )
        elif self.reduction is not None:
            self.reduction = arguments.integer("reduction", self.reduction, minimum=1)
        else:
            check(
                self.ratio_head == "correlation",
                "reduction",
                'an integer or "auto" with ratio_head="mlp", which has no convolution',
                None,
            )
        if self.initial_ratios is not None:
            pool = self.normalizers or moments.NORMALIZERS
            ratios.complete_shares(self.initial_ratios, pool)

    def build(self, input_shape):
        rank = len(input_shape)
        check(2 <= rank <= 5, "inputs", "of rank 2 to 5", tuple(input_shape), "shape")
        check(
            -rank < self.axis < rank,
            "axis",
            f"between {1 - rank} and {rank - 1}, and not 0, for inputs of rank {rank}",
            self.axis,
        )
        axis = self.axis % rank
        channels = input_shape[axis]
        check(
            channels is not None,
            "inputs",
            f"of a defined size on the channel axis, axis={self.axis}",
            tuple(input_shape),
            "shape",
        )
        pool = self.normalizers
        if pool is None:
            pool = ("layer", "batch") if rank == 2 else ("instance", "layer", "batch")
        check(
            rank > 2 or "instance" not in pool,
            "normalizers",
            'without "instance" for inputs of rank 2, which have no spatial axes',
            pool,
        )
        if "group" in pool:
            arguments.divisor("groups", self.groups, channels)
        self._axis = axis
        self.pool = pool
        self._reduction = ratios.resolve_reduction(self.reduction, channels)
        self._add_affine_weights(len(pool), channels)
        self._add_ratio_weights(len(pool), channels)
        self.input_spec = keras.layers.InputSpec(ndim=rank, axes={axis: channels})

    def _add_exact_weight(self, **kwargs):
        # Mixed precision must not round a weight before the statistics use it.
        return self.add_weight(autocast=False, **kwargs)

    def _add_affine_weights(self, k, channels):
        shape = (channels,) if self.share_affine else (k, channels)
        self.gamma = self.beta = self.moving_mean = self.moving_variance = None
        if self.scale:
            self.gamma = self._add_exact_weight(
                name="gamma",
                shape=shape,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.beta = self._add_exact_weight(
                name="beta",
                shape=shape,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
        if "batch" in self.pool:
            self.moving_mean = self._add_exact_weight(
                name="moving_mean",
                shape=(channels,),
                initializer=self.moving_mean_initializer,
                trainable=False,
            )
            self.moving_variance = self._add_exact_weight(
                name="moving_variance",
                shape=(channels,),
                initializer=self.moving_variance_initializer,
                trainable=False,
            )

    def _add_ratio_weights(self, k, channels):
        # Clones: an initializer called twice repeats its values.
        def learned(name, shape):
            return self._add_exact_weight(
                name=name,
                shape=shape,
                initializer=self.ratio_initializer.clone(),
                regularizer=self.ratio_regularizer,
            )

        self.ratio_conv = None
        if self.ratio_head == "mlp":
            features, units = channels, channels // self._reduction
        else:
            features, units = k * k, self.expansion * k
            if self._reduction is not None:
                self.ratio_conv = learned("ratio_conv", (channels,))
        self.ratio_hidden_kernel = learned("ratio_hidden_kernel", (features, units))
        self.ratio_hidden_bias = self._add_exact_weight(
            name="ratio_hidden_bias", shape=(units,), initializer="zeros"
        )
        self.ratio_output_kernel = self._add_exact_weight(
            name="ratio_output_kernel",
            shape=(units, k),
            initializer="zeros",
            regularizer=self.ratio_regularizer,
        )
        self.ratio_output_bias = self._add_exact_weight(
            name="ratio_output_bias", shape=(k,), initializer=self._initial_logits
        )

    def _initial_logits(self, shape, dtype=None):
        if self.initial_ratios is None:
            return ops.zeros(shape, dtype=dtype)
        shares = ratios.complete_shares(self.initial_ratios, self.pool)
        return ops.convert_to_tensor(ratios.logits(shares), dtype=dtype)

    def call(self, inputs, training=None, mask=None, return_ratios=False):
        self._check_inputs(inputs, mask)
        dtype = self._statistics_dtype(inputs)
        x = ops.cast(inputs, dtype)
        sample = moments.per_sample(x, self._axis, mask)
        mean, variance = self._statistics(sample, training)
        inverse = ops.rsqrt(variance + self.epsilon)
        pooled = ops.expand_dims(sample.mean, 1)  # (N, 1, C)
        x_hat = (pooled - mean) * inverse  # (N, K, C)
        shares = self._ratios(sample.mean, x_hat)  # (N, K)

        # Eq. 3 around the instance mean m: y = (x - m) a + sum_k w_k x_hat_k + beta.
        weights = ops.expand_dims(shares, 2)  # (N, K, 1)
        if self.scale:
            weights = weights * ops.cast(self.gamma, dtype)
        a = ops.sum(weights * inverse, axis=1)  # (N, C)
        b = ops.sum(weights * x_hat, axis=1) - sample.mean * a
        if self.center:
            beta = ops.cast(self.beta, dtype)
            b = b + (beta if self.share_affine else ops.sum(beta, axis=0))
        outputs = affine.scale_and_shift(x, a, b, self._axis)
        outputs = ops.cast(outputs, self.compute_dtype)
        return (outputs, shares) if return_ratios else outputs

    def _statistics(self, sample, training):
        """Means and variances of the pool, each `(N, K, C)`."""
        found = []
        for name in self.pool:
            if name == "instance":
                found.append((sample.mean, sample.variance))
            elif name == "batch":
                batch = self._batch_statistics(sample, training)
                shape = ops.shape(sample.mean)
                found.append([ops.broadcast_to(t, shape) for t in batch])
            else:
                groups = self.groups if name == "group" else 1
                found.append(
                    moments.over_channels(sample.mean, sample.variance, groups)
                )
        means, variances = zip(*found, strict=True)
        return ops.stack(means, axis=1), ops.stack(variances, axis=1)

    def _batch_statistics(self, sample, training):
        dtype = sample.mean.dtype
        moving = [ops.cast(v, dtype) for v in (self.moving_mean, self.moving_variance)]
        if not (training and self.trainable):
            return moving
        batch = moments.over_batch(*sample)
        if self.synchronized:
            batch = replicas.merge(batch)
        # An empty batch says nothing: it must not pull the averages towards 0.
        seen = batch.count > 0
        for variable, old, new in zip(
            (self.moving_mean, self.moving_variance), moving, batch[:2], strict=True
        ):
            updated = old * self.momentum + new * (1.0 - self.momentum)
            variable.assign(ops.squeeze(ops.where(seen, updated, old), 0))
        return batch.mean, batch.variance

    def _ratios(self, pooled, x_hat):
        dtype = x_hat.dtype

        def cast(*variables):
            return [ops.cast(variable, dtype) for variable in variables]

        if self.ratio_head == "mlp":
            features = pooled
        else:
            conv = None if self.ratio_conv is None else ops.cast(self.ratio_conv, dtype)
            features = ratios.correlation(x_hat, conv, self._reduction)
        return ratios.perceptron(
            features,
            cast(self.ratio_hidden_kernel, self.ratio_hidden_bias),
            cast(self.ratio_output_kernel, self.ratio_output_bias),
            self.ratio_activation,
        )

    def _statistics_dtype(self, inputs):
        # Not `keras.backend.result_type`, which knows no float64 on JAX.
        dtypes = (keras.backend.standardize_dtype(inputs.dtype), self.variable_dtype)
        return "float64" if "float64" in dtypes else "float32"

    def _check_inputs(self, inputs, mask):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise TypeError(
                "Argument `inputs` must have a floating-point dtype. "
                f"Received: inputs.dtype={dtype}"
            )
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ValueError(
                "Argument `mask` must have the shape of `inputs` without the channel "
                f"axis. Received: mask.shape={tuple(mask.shape)}, "
                f"inputs.shape={tuple(inputs.shape)}"
            )

    def compute_output_spec(
        self, inputs, training=None, mask=None, return_ratios=False
    ):
        self._check_inputs(inputs, mask)
        outputs = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_ratios:
            return outputs
        shape = (inputs.shape[0], len(self.pool))
        return outputs, keras.KerasTensor(shape, dtype=self._statistics_dtype(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {
            name: getattr(self, name)
            for name in (
                "axis",
                "momentum",
                "epsilon",
                "center",
                "scale",
                "synchronized",
                "normalizers",
                "groups",
                "reduction",
                "expansion",
                "ratio_head",
                "share_affine",
                "initial_ratios",
            )
        }
        for part in ("beta", "gamma", "moving_mean", "moving_variance", "ratio"):
            name = f"{part}_initializer"
            config[name] = keras.initializers.serialize(getattr(self, name))
        for part in ("beta", "gamma", "ratio"):
            name = f"{part}_regularizer"
            config[name] = keras.regularizers.serialize(getattr(self, name))
        for part in ("beta", "gamma"):
            name = f"{part}_constraint"
            config[name] = keras.constraints.serialize(getattr(self, name))
        config["ratio_activation"] = keras.activations.serialize(self.ratio_activation)
        return {**super().get_config(), **config}
