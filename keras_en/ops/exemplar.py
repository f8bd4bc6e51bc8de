"""Eq. 3 folded: from statistics and weights to one multiply-add per element."""

import functools
import operator
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_en.ops import kernels, moments, ratios, rows
from keras_en.ops.gradients import with_backward


class ExemplarWeights(NamedTuple):
    """The weights of the layer, in one dtype, by its names for them.

    - `gamma`, `beta`: `(K, C)` or `(C,)`, or `None`.
    - `ratio_conv`: `(C,)`, or `None`.
    - `ratio_hidden_kernel`, `ratio_hidden_bias`, `ratio_output_kernel`,
      `ratio_output_bias`: of the two dense layers.
    """

    gamma: Any
    beta: Any
    ratio_conv: Any
    ratio_hidden_kernel: Any
    ratio_hidden_bias: Any
    ratio_output_kernel: Any
    ratio_output_bias: Any


class Residuals(NamedTuple):
    """What the backward pass uses again; `(N, K, C)` where nothing else is said.

    - `inverses`: `1 / sqrt(var_k + epsilon)`. `x_hat`: `(m - mu_k) * inverses`.
    - `deviations`: `m - mu_k`, `(N, C)`, one a normalizer.
    - `features`: what the dense layers read, `(N, F)`. `z`: see `ratios.correlation`.
    - `units`: see `ratios.perceptron`. `ratios`: `(N, K)`. `a`: `(N, C)`.
    """

    inverses: Any
    x_hat: Any
    deviations: tuple
    features: Any
    z: Any
    units: tuple
    ratios: Any
    a: Any


class ExemplarMixture(NamedTuple):
    """How a layer mixes; fixed when it is built.

    `y[n] = x[n] a[n] + b[n]`, with `x_hat_k = (m - mu_k) / sqrt(var_k + epsilon)`,
    `a = sum_k lambda_k gamma_k / sqrt(var_k + epsilon)` and
    `b = sum_k (lambda_k gamma_k x_hat_k + beta_k) - m a`: Eq. 3 around the instance
    mean `m`.

    - `pool`: tuple of `K` normalizers.
    - `reduction`: `r`, resolved.
    - `activation`: callable.
    """

    pool: tuple
    groups: int
    ratio_head: str
    reduction: int | None
    activation: Any

    @property
    def pure(self):
        """Whether the activation is one of Keras's: a function of its argument alone.

        Another may be random, or hold variables that a backward pass by hand would not
        know and a function for several layers must not share.
        """
        return is_of_keras(self.activation)

    def fold(self, statistics, weights, epsilon, training=False, count=None):
        """Scale, shift and ratios of each sample.

        Args:
            statistics: `moments.Statistics`, in the dtype of the weights.
            weights: `ExemplarWeights`.
            epsilon: Positive float.
            training: If `True`, the backward pass is written by hand: TensorFlow's is
                made of 240 nodes, which take longer to trace than to run.
            count: See `moments.statistics_of`.

        Returns:
            `a` and `b`, `(N, C)`, and the ratios `(N, K)`.
        """
        forward = functools.partial(self._forward, epsilon)
        backward, inputs = self._backward, (statistics, weights)
        if kernels.fits(self, statistics, count):
            head = kernels.Head.of(self, epsilon, statistics, weights)
            forward, backward = head.passes(forward, backward)
        if not (training and self.pure):
            return forward((count,), inputs)[0]
        return with_backward(forward, backward, inputs, (count,))

    def _forward(self, epsilon, constants, inputs):
        # Stacks, not a tensor a normalizer: XLA does not compute again, for every
        # element of x, what comes out of a sum over them (with four normalizers on a
        # CPU 0.7 to 0.9 of the time), and TensorFlow has fewer nodes to trace.
        (count,), (statistics, weights) = constants, inputs
        m, zero = statistics.mean, ops.zeros_like(statistics.mean)
        variances, deviations = [], []
        for name in self.pool:
            mean, variance = moments.statistics_of(name, statistics, self.groups, count)
            # The pooled input is the mean of "instance" (Sec. 3.3).
            instance = name == "instance"
            variances.append(variance if instance else variance + zero)
            deviations.append(zero if instance else m - mean)
        inverses = ops.rsqrt(ops.stack(variances, axis=1) + epsilon)
        x_hat = ops.stack(deviations, axis=1) * inverses

        features, z, shares, units = self._head(m, x_hat, weights)
        scale = _scale(shares, weights)
        a = ops.sum(scale * inverses, axis=1)
        terms, beta = scale * x_hat, weights.beta
        if beta is not None and len(beta.shape) == 2:
            terms = terms + beta
        b = ops.sum(terms, axis=1) - m * a
        if beta is not None and len(beta.shape) == 1:
            b = b + beta
        residuals = Residuals(
            inverses, x_hat, tuple(deviations), features, z, units, shares, a
        )
        return (a, b, shares + zero[:, :1] if self._single else shares), residuals

    @property
    def _single(self):
        """Whether the ratio of every sample is 1, whatever the head's weights are: it
        is computed of one row of zeros, for the derivatives, and not for every
        sample, which would take most of the time where samples have no positions."""
        return len(self.pool) == 1

    def _head(self, m, x_hat, weights):
        """The ratios `(N, K)`, or `(1, 1)` of a single normalizer, behind `features`
        and `z`, and before `units`; see `Residuals`."""
        if self._single:
            m = ops.zeros((1, m.shape[1]), dtype=m.dtype)
            x_hat = ops.zeros((1, *x_hat.shape[1:]), dtype=m.dtype)
        features, z = m, None
        if self.ratio_head == "correlation":
            features, z = ratios.correlation(x_hat, weights.ratio_conv, self.reduction)
        shares, units = ratios.perceptron(features, weights, self.activation)
        return features, z, shares, units

    def _backward(self, constants, inputs, residuals, upstream):
        """Every line is the derivative of one of `_forward`."""
        statistics, weights = inputs
        da, db, d_ratios = upstream
        d_gamma = d_beta = None
        if weights.beta is not None:
            # Eq. 3 adds every row to every sample.
            d_beta = ops.broadcast_to(rows.total(db), weights.beta.shape)
        d_mean = [-(residuals.a * db)]
        da = ops.expand_dims(da - statistics.mean * db, axis=1)
        db = ops.expand_dims(db, axis=1)

        d_scale = da * residuals.inverses + db * residuals.x_hat  # (N, K, C)
        if weights.gamma is not None:
            d_gamma = _summed(_column(residuals.ratios) * d_scale, weights.gamma)
            d_scale = d_scale * weights.gamma
        d_ratios = d_ratios + ops.sum(d_scale, axis=2)
        scale = _scale(residuals.ratios, weights)
        d_x_hat = scale * db
        by_mean, by_rows, d_head = self._head_backward(weights, residuals, d_ratios)
        if by_mean is not None:
            d_mean.append(by_mean)
        if by_rows is not None:
            d_x_hat = d_x_hat + by_rows
        d_statistics = self._statistics_backward(
            constants, statistics, residuals, d_mean, scale * da, d_x_hat
        )
        return d_statistics, ExemplarWeights(d_gamma, d_beta, *d_head)

    def _head_backward(self, weights, residuals, d_ratios):
        """The gradients by instance mean and `x_hat`, or `None`, and by the five
        weights of the head."""
        if self._single:
            zeros = (None if w is None else ops.zeros_like(w) for w in weights[2:])
            return None, None, tuple(zeros)
        d_features, dense = ratios.perceptron_backward(
            residuals.features,
            weights,
            self.activation,
            residuals.ratios,
            residuals.units,
            d_ratios,
        )
        if self.ratio_head == "mlp":
            return d_features, None, (None, *dense)
        d_rows, d_conv = ratios.correlation_backward(
            residuals.x_hat, weights.ratio_conv, residuals.z, d_features
        )
        return None, d_rows, (d_conv, *dense)

    def _statistics_backward(
        self, constants, statistics, residuals, d_mean, d_inverses, d_x_hat
    ):
        """The gradients by the statistics.

        Args:
            constants, statistics, residuals: Of the forward pass.
            d_mean: Gradients by the instance mean that are there already, a list.
            d_inverses, d_x_hat: Gradients by the residuals of these names.
        """
        inverses = residuals.inverses
        by_logarithm = d_inverses * inverses + d_x_hat * residuals.x_hat
        by_variance = by_logarithm * (inverses * (inverses * -0.5))
        # In `(N, C)`, which the layer's statistics alone would not give.
        d_variance, d_batch = [ops.zeros_like(statistics.mean)], (None, None)
        for name, deviation, d_deviation, d_spread in zip(
            self.pool,
            residuals.deviations,
            ops.unstack(d_x_hat * inverses, axis=1),
            ops.unstack(by_variance, axis=1),
            strict=True,
        ):
            if name == "instance":
                d_variance.append(d_spread)
                continue
            d_mean.append(d_deviation)
            if name == "batch":
                d_batch = (
                    _summed(-d_deviation, statistics.batch_mean),
                    _summed(d_spread, statistics.batch_variance),
                )
                continue
            groups = self.groups if name == "group" else 1
            by_mean, d_spread = moments.over_channels_backward(
                deviation, -d_deviation, d_spread, groups, *constants
            )
            d_mean.append(by_mean)
            d_variance.append(d_spread)
        return moments.Statistics(_total(d_mean), _total(d_variance), *d_batch)


def is_of_keras(activation):
    """Whether `activation` is a function of `keras.activations`."""
    name = getattr(activation, "__name__", "")
    return getattr(keras.activations, name, None) is activation


def _column(shares):
    return ops.expand_dims(shares, axis=2)


def _scale(shares, weights):
    """`lambda_k gamma_k`, `(N, K, C)`, or `(N, K, 1)` without gamma."""
    column = _column(shares)
    return column if weights.gamma is None else column * weights.gamma


def _summed(gradient, tensor):
    """A gradient, summed over the axes that `tensor` was broadcast along."""
    extra = len(gradient.shape) - len(tensor.shape)
    gradient = rows.total(gradient, keepdims=not extra)
    return ops.sum(gradient, axis=tuple(range(extra - 1))) if extra > 1 else gradient


def _total(terms):
    """Their sum, without the 0 that Python's `sum` would add first."""
    # `keras.ops.add` on TensorFlow takes an empty batch for a bias.
    return functools.reduce(operator.add, terms)
