"""Eq. 3 folded: from statistics and weights to one multiply-add per element."""

import functools
import operator
from typing import NamedTuple

import keras
from keras import ops

from keras_en import moments, ratios
from keras_en.gradients import with_derivative

HEAD = ("hidden_kernel", "hidden_bias", "output_kernel", "output_bias")


class Mixture(NamedTuple):
    """What is fixed about a layer's mixture; the arguments of the layer.

    `y[n] = x[n] a[n] + b[n]`, with `x_hat_k = (m - mu_k) / sqrt(var_k + epsilon)`,
    `a = sum_k lambda_k gamma_k / sqrt(var_k + epsilon)` and
    `b = sum_k (lambda_k gamma_k x_hat_k + beta_k) - m a`: Eq. 3 around the instance
    mean `m`.

    - `pool`: tuple of `K` normalizers.
    - `reduction`: `r`, resolved.
    - `activation`: callable.
    """

    pool: tuple
    epsilon: float
    groups: int
    ratio_head: str
    reduction: int
    activation: object

    def fold(self, tensors, training=False):
        """Scale, shift and ratios of each sample.

        Args:
            tensors: Dictionary of tensors of one dtype: "mean" and "variance"
                `(N, C)`, those of each sample; "batch_mean" and "batch_variance"
                `(C,)` or `(1, C)`, if the pool holds "batch"; "gamma" and "beta",
                `(K, C)` or `(C,)`, if there are any; "conv" `(C,)`, if there is one;
                "hidden_kernel", "hidden_bias", "output_kernel" and "output_bias".
            training: If `True`, the derivative is written by hand: TensorFlow's is
                made of 240 nodes, which take longer to trace than to run.

        Returns:
            `a` and `b`, `(N, C)`, and the ratios `(N, K)`.
        """
        names = tuple(tensors)

        def forward(*values):
            return self._forward(dict(zip(names, values, strict=True)))

        def derivative(kept, values, upstream):
            given = dict(zip(names, values, strict=True))
            found = self._derivative(given, kept, *upstream)
            return [found[name] for name in names]

        return with_derivative(forward, derivative, training and self.pure)(
            *tensors.values()
        )

    @property
    def pure(self):
        """Whether the activation is one of Keras's: a function of its argument alone.

        Another may be random, or hold variables that a derivative by hand would not
        know and a function for several layers must not share.
        """
        name = getattr(self.activation, "__name__", "")
        return getattr(keras.activations, name, None) is self.activation

    def _forward(self, t):
        m = t["mean"]
        batch = t.get("batch_mean"), t.get("batch_variance")
        inverses, deviations, x_hat = {}, {}, {}
        for name in self.pool:
            mean, variance = moments.of(name, m, t["variance"], batch, self.groups)
            inverses[name] = ops.rsqrt(variance + self.epsilon)
            # Those of "instance" are 0: the pooled input is its mean (Sec. 3.3).
            if name != "instance":
                deviations[name] = m - mean
                x_hat[name] = deviations[name] * inverses[name]  # (N, C)

        features = stacked = z = None
        if self.ratio_head == "mlp":
            features = m
        else:
            zero = ops.zeros_like(m)
            rows = [x_hat.get(name, zero) for name in self.pool]
            stacked = ops.stack(rows, axis=1)  # (N, K, C)
            features, z = ratios.correlation(stacked, t.get("conv"), self.reduction)
        shares, units = ratios.perceptron(features, *self._dense(t), self.activation)

        weights = self._weights(shares, t.get("gamma"))
        a = total(weights[name] * inverses[name] for name in self.pool)
        if a.shape[1] != m.shape[1]:  # layer statistics alone, without gamma
            a = ops.broadcast_to(a, ops.shape(m))
        offsets = [weights[name] * x_hat[name] for name in x_hat]
        if "beta" in t:
            beta = t["beta"]
            offsets.append(beta if len(beta.shape) == 1 else ops.sum(beta, axis=0))
        b = (total(offsets) if offsets else 0) - m * a
        kept = (inverses, deviations, x_hat, features, stacked, z, units, shares, a)
        return (a, b, shares), (*kept, weights)

    def _derivative(self, t, kept, da, db, d_shares):
        """By name; every line is the derivative of one of `_forward`."""
        inverses, deviations, x_hat, features, stacked, z, units, shares, a = kept[:-1]
        weights = kept[-1]
        k = len(self.pool)
        m = t["mean"]
        found = {}
        if "beta" in t:
            d_beta = ops.sum(db, axis=0)
            found["beta"] = ops.broadcast_to(d_beta, t["beta"].shape)
        da = da - m * db
        d_weights = [
            da * inverses[name] + db * x_hat[name]
            if name in x_hat
            else da * inverses[name]
            for name in self.pool
        ]
        d_weights = ops.stack(d_weights, axis=1)  # (N, K, C)
        scaled = d_weights
        if "gamma" in t:
            gamma = t["gamma"]
            axes = 0 if len(gamma.shape) == 2 else (0, 1)
            column = ops.reshape(shares, (-1, k, 1))
            found["gamma"] = ops.sum(column * d_weights, axis=axes)
            scaled = d_weights * gamma
        d_shares = d_shares + ops.sum(scaled, axis=2)
        d_features, *d_head = ratios.perceptron_derivative(
            features, *self._dense(t), self.activation, shares, units, d_shares
        )
        found.update(zip(HEAD, d_head, strict=True))

        d_mean, d_variance = [-(a * db)], []
        rows = [None] * k
        if self.ratio_head == "mlp":
            d_mean.append(d_features)
        else:
            conv = t.get("conv")
            d_rows, d_conv = ratios.correlation_derivative(stacked, conv, z, d_features)
            if conv is not None:
                found["conv"] = d_conv
            rows = ops.unstack(d_rows, axis=1)
        for name, row in zip(self.pool, rows, strict=True):
            inverse = inverses[name]
            d_inverse = weights[name] * da
            if name in x_hat:
                d_x_hat = weights[name] * db
                d_x_hat = d_x_hat if row is None else d_x_hat + row
                d_deviation = d_x_hat * inverse
                d_mean.append(d_deviation)
                d_inverse = d_inverse + d_x_hat * deviations[name]
            by_variance = d_inverse * (inverse * inverse * (inverse * -0.5))
            if name == "instance":
                d_variance.append(by_variance)
            elif name == "batch":
                for kind, value in (("mean", -d_deviation), ("variance", by_variance)):
                    shape = t[f"batch_{kind}"].shape
                    value = ops.sum(value, axis=0, keepdims=len(shape) == 2)
                    found[f"batch_{kind}"] = value
            else:
                groups = self.groups if name == "group" else 1
                by_mean, by_spread = moments.over_channels_derivative(
                    deviations[name], -d_deviation, by_variance, groups
                )
                d_mean.append(by_mean)
                d_variance.append(by_spread)
        found["mean"] = total(d_mean)
        d_variance = total(d_variance) if d_variance else ops.zeros_like(m)
        if d_variance.shape[1] != m.shape[1]:
            d_variance = ops.broadcast_to(d_variance, ops.shape(m))
        found["variance"] = d_variance
        return found

    def _dense(self, t):
        hidden_kernel, hidden_bias, output_kernel, output_bias = (
            t[name] for name in HEAD
        )
        return (hidden_kernel, hidden_bias), (output_kernel, output_bias)

    def _weights(self, shares, gamma):
        """`lambda_k gamma_k` by name, `(N, C)`, or `(N, 1)` without gamma."""
        k = len(self.pool)
        weights = ops.split(shares, k, axis=1)
        if gamma is not None:
            gammas = [gamma] * k if len(gamma.shape) == 1 else ops.split(gamma, k)
            weights = [w * g for w, g in zip(weights, gammas, strict=True)]
        return dict(zip(self.pool, weights, strict=True))


def total(terms):
    """Their sum, without the 0 that Python's `sum` would add first."""
    # `keras.ops.add` on TensorFlow takes an empty batch for a bias.
    return functools.reduce(operator.add, terms)
