"""What Exemplar Normalization is measured against, beside Keras's own layers."""

from keras import ops

from keras_en import ExemplarNormalization
from keras_en.ops import ratios
from keras_en.ops.exemplar import ExemplarWeights


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
                    old = variable * self.momentum
                    variable.assign(old + new * (1 - self.momentum))
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
            stacked, self.ratio_conv.value, self.resolved_reduction
        )
        weights = ExemplarWeights(*(getattr(self, n) for n in ExemplarWeights._fields))
        values = ExemplarWeights(*(None if w is None else w.value for w in weights))
        shares, _ = ratios.perceptron(features, values, self.ratio_activation)
        outputs = 0
        for k, (mean, _) in enumerate(statistics):
            share = ops.reshape(shares[:, k], (-1,) + (1,) * (len(x.shape) - 1))
            normalized = share * (x - mean) * inverses[k]
            outputs = outputs + self.gamma[k] * normalized + self.beta[k]
        return ops.cast(outputs, self.compute_dtype)
