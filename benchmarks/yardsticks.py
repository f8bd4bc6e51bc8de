"""What Exemplar Normalization is measured against, beside Keras's own layers."""

from keras import ops

from keras_en import ExemplarNormalization, affine, moments, ratios
from keras_en.layers.normalizer_pool import NormalizerPool


class Printed(ExemplarNormalization):
    """Eq. 3 as printed: K means and variances, each from x; K normalized tensors."""

    def call(self, inputs, training=None):
        dtype = self._statistics_dtype(inputs)
        x = ops.cast(inputs, dtype)  # channels last
        spatial = tuple(range(1, len(x.shape) - 1))
        axes = {
            "instance": spatial,
            "layer": (*spatial, len(x.shape) - 1),
            "batch": (0, *spatial),
        }
        statistics = []
        for name in self.pool:
            if name == "batch" and not training:
                statistics.append((self.moving_mean.value, self.moving_variance.value))
                continue
            statistics.append(ops.moments(x, axes[name], keepdims=True))
            if name == "batch":
                moving = (self.moving_mean, self.moving_variance)
                for variable, new in zip(moving, statistics[-1], strict=True):
                    new = ops.reshape(new, variable.shape)
                    kept = variable * self.momentum
                    variable.assign(kept + new * (1 - self.momentum))
        pooled = ops.mean(x, axis=spatial, keepdims=True)
        inverses = [ops.rsqrt(variance + self.epsilon) for _, variance in statistics]
        x_hat = {
            name: ops.reshape((pooled - mean) * inverse, (-1, x.shape[-1]))
            for name, (mean, _), inverse in zip(
                self.pool, statistics, inverses, strict=True
            )
        }
        stacked = ops.stack([x_hat[name] for name in self.pool], axis=1)
        features, _ = ratios.correlation(
            stacked, self.ratio_conv.value, self._reduction
        )
        shares, _ = ratios.perceptron(
            features,
            (self.ratio_hidden_kernel.value, self.ratio_hidden_bias.value),
            (self.ratio_output_kernel.value, self.ratio_output_bias.value),
            self.ratio_activation,
        )
        outputs = 0
        for k, (mean, _) in enumerate(statistics):
            share = ops.reshape(shares[:, k], (-1,) + (1,) * (len(x.shape) - 1))
            normalized = share * (x - mean) * inverses[k]
            outputs = outputs + self.gamma[k] * normalized + self.beta[k]
        return ops.cast(outputs, self.compute_dtype)


class FoldedSwitchable(NormalizerPool):
    """Switchable Normalization (Eq. 2) in the same folded form."""

    def _add_weights(self, channels):
        self._add_affine_weights((channels,))
        self._add_moving_statistics(channels)
        self.mixture = [
            self._add_exact_weight(
                name=name, shape=(len(self.pool),), initializer="ones"
            )
            for name in ("mean_logits", "variance_logits")
        ]

    def call(self, inputs, training=None):
        x = ops.cast(inputs, self._statistics_dtype(inputs))
        sample = moments.per_sample(x, self._axis, None, training)
        batch = moving = self._moving(x.dtype)
        if self._learns(training):
            batch = moments.over_batch(*sample)
            moved = moments.moved(moving, batch, self.momentum)
            self.moving_mean.assign(moved[0])
            self.moving_variance.assign(moved[1])
        statistics = [
            moments.of(name, *sample[:2], batch[:2], self.groups) for name in self.pool
        ]
        mixed = [
            sum(share * value for share, value in zip(shares, values, strict=True))
            for shares, values in zip(
                (ops.unstack(ops.softmax(logits)) for logits in self.mixture),
                zip(*statistics, strict=True),
                strict=True,
            )
        ]
        a = self.gamma * ops.rsqrt(mixed[1] + self.epsilon)
        outputs = affine.scale_and_shift(
            x, a, self.beta - mixed[0] * a, self._axis, training
        )
        return ops.cast(outputs, self.compute_dtype)
