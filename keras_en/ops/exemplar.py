"""Eq. 3 folded: from statistics and weights to one multiply-add per element."""

import functools
import operator
from typing import NamedTuple

import keras
from keras import ops

from keras_en.ops import moments, ratios
from keras_en.ops.gradients import with_derivative

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
        # Stacks, not a tensor a normalizer: XLA does not compute again, for every
        # element of x, what comes out of a sum over them (with four normalizers on a
        # CPU 0.7 to 0.9 of the time), and TensorFlow has fewer nodes to trace.
        m = t["mean"]
        batch = t.get("batch_mean"), t.get("batch_variance")
        zero = ops.zeros_like(m)
        variances, deviations = [], {}
        for name in self.pool:
            mean, variance = moments.of(name, m, t["variance"], batch, self.groups)
            # The pooled input is the mean of "instance" (Sec. 3.3).
            instance = name == "instance"
            variances.append(variance if instance else variance + zero)
            deviations[name] = zero if instance else m - mean
        inverses = ops.rsqrt(ops.stack(variances, axis=1) + self.epsilon)
        x_hat = ops.stack(list(deviations.values()), axis=1) * inverses

        features, z = m, None
        if self.ratio_head == "correlation":
            features, z = ratios.correlation(x_hat, t.get("conv"), self.reduction)
        shares, units = ratios.perceptron(features, *self._dense(t), self.activation)

        weights = self._weights(shares, t)
        a = ops.sum(weights * inverses, axis=1)
        terms, beta = weights * x_hat, t.get("beta")
        if beta is not None and len(beta.shape) == 2:
            terms = terms + beta
        b = ops.sum(terms, axis=1) - m * a
        if beta is not None and len(beta.shape) == 1:
            b = b + beta
        kept = inverses, deviations, x_hat, features, z, units, shares, a
        return (a, b, shares), kept

    def _derivative(self, t, kept, da, db, d_shares):
        """By name; every line is the derivative of one of `_forward`."""
        inverses, deviations, x_hat, features, z, units, shares, a = kept
        found = {}
        if "beta" in t:
            d_beta = ops.sum(db, axis=0)
            found["beta"] = ops.broadcast_to(d_beta, t["beta"].shape)
        d_mean, d_variance = [-(a * db)], []
        da = ops.expand_dims(da - t["mean"] * db, axis=1)
        db = ops.expand_dims(db, axis=1)

        d_weights = da * inverses + db * x_hat  # (N, K, C)
        scaled = d_weights
        if "gamma" in t:
            gamma = t["gamma"]
            axes = 0 if len(gamma.shape) == 2 else (0, 1)
            found["gamma"] = ops.sum(_column(shares) * d_weights, axis=axes)
            scaled = d_weights * gamma
        d_shares = d_shares + ops.sum(scaled, axis=2)
        d_features, *d_head = ratios.perceptron_derivative(
            features, *self._dense(t), self.activation, shares, units, d_shares
        )
        found.update(zip(HEAD, d_head, strict=True))

        weights = self._weights(shares, t)
        d_x_hat = weights * db
        if self.ratio_head == "mlp":
            d_mean.append(d_features)
        else:
            conv = t.get("conv")
            d_rows, d_conv = ratios.correlation_derivative(x_hat, conv, z, d_features)
            d_x_hat = d_x_hat + d_rows
            if conv is not None:
                found["conv"] = d_conv
        d_logarithm = weights * da * inverses + d_x_hat * x_hat  # by log(inverse)
        by_variance = d_logarithm * (inverses * (inverses * -0.5))
        for name, d_deviation, by_spread in zip(
            self.pool,
            ops.unstack(d_x_hat * inverses, axis=1),
            ops.unstack(by_variance, axis=1),
            strict=True,
        ):
            if name == "instance":
                d_variance.append(by_spread)
                continue
            d_mean.append(d_deviation)
            if name == "batch":
                for kind, value in (("mean", -d_deviation), ("variance", by_spread)):
                    shape = t[f"batch_{kind}"].shape
                    value = ops.sum(value, axis=0, keepdims=len(shape) == 2)
                    found[f"batch_{kind}"] = value
                continue
            groups = self.groups if name == "group" else 1
            by_mean, by_spread = moments.over_channels_derivative(
                deviations[name], -d_deviation, by_spread, groups
            )
            d_mean.append(by_mean)
            d_variance.append(by_spread)
        found["mean"] = _total(d_mean)
        # In `(N, C)`, which the layer's statistics alone would not give.
        found["variance"] = _total([ops.zeros_like(t["mean"]), *d_variance])
        return found

    def _dense(self, t):
        hidden_kernel, hidden_bias, output_kernel, output_bias = (
            t[name] for name in HEAD
        )
        return (hidden_kernel, hidden_bias), (output_kernel, output_bias)

    def _weights(self, shares, t):
        """`lambda_k gamma_k`, `(N, K, C)`, or `(N, K, 1)` without gamma."""
        column = _column(shares)
        return column * t["gamma"] if "gamma" in t else column


def _column(shares):
    return ops.expand_dims(shares, axis=2)


def _total(terms):
    """Their sum, without the 0 that Python's `sum` would add first."""
    # `keras.ops.add` on TensorFlow takes an empty batch for a bias.
    return functools.reduce(operator.add, terms)
