"""Batch renormalization: in training "batch" normalizes nearly as in inference.

Source: Ioffe 2017, https://arxiv.org/abs/1702.03275, Algorithm 1.
"""

from typing import NamedTuple

from keras import ops

from keras_en.ops.moments import Moments, moved

_KEYS = ("rmax", "rmin", "dmax")


class Moving(NamedTuple):
    """The moving statistics of a layer, `(C,)` each, by its names for them.

    - `moving_mean`, `moving_variance`: those of inference.
    - `moving_stddev`: `sqrt(variance + epsilon)`, of which `moving_variance` is made.
    - `renorm_mean`, `renorm_stddev`: those that training normalizes with.
    """

    moving_mean: object
    moving_variance: object
    moving_stddev: object
    renorm_mean: object
    renorm_stddev: object


class Renorm(NamedTuple):
    """How a layer renormalizes.

    `x_hat r + d` stands for `x_hat = (x - mu) / sigma`, with `sigma = sqrt(var +
    epsilon)`, `r = sigma / sigma'` in [`rmin`, `rmax`] and `d = (mu - mu') / sigma'` in
    [-`dmax`, `dmax`], constants for gradients; `mu'` and `sigma'` are moving averages,
    of `momentum`. A limit of `None` is none.
    """

    rmin: float | None
    rmax: float | None
    dmax: float | None
    momentum: float

    @classmethod
    def of(cls, clipping, momentum):
        """Of the arguments `renorm_clipping` and `renorm_momentum` of a layer.

        Raises:
            ValueError: In the words of `keras.layers.BatchNormalization`.
        """
        if set(clipping) - set(_KEYS):
            raise ValueError(
                "Received invalid keys for `renorm_clipping` argument: "
                f"{clipping}. Supported values: {list(_KEYS)}."
            )
        rmax, rmin, dmax = map(clipping.get, _KEYS)
        if rmax is not None and rmin is not None and rmax < rmin:
            raise ValueError(
                "rmax should be greater than rmin in the `renorm_clipping` argument. "
                f"Received: rmax={rmax}, rmin={rmin}."
            )
        if dmax is not None and dmax < 0:
            raise ValueError(
                "dmax should be non-negative in the `renorm_clipping` argument. "
                f"Received: dmax={dmax}."
            )
        return cls(rmin, rmax, dmax, momentum)

    def corrected(self, batch, moving, epsilon):
        """The mean and variance by which `x` becomes `x_hat r + d`.

        `(x - m) / s = x_hat r + d` with `s = sigma / r` and `m = mu - d s`.

        Args:
            batch: Mean and variance of the batch, `(1, C)` each.
            moving: `Moving`.
            epsilon: Positive float.
        """
        mean, variance = batch
        sigma = ops.sqrt(variance + epsilon)
        # Not below what a variance of 0 has, early in training.
        stddev = ops.maximum(moving.renorm_stddev, epsilon**0.5)
        r, d = sigma / stddev, (mean - moving.renorm_mean) / stddev
        if self.rmin is not None:
            r = ops.maximum(r, self.rmin)
        if self.rmax is not None:
            r = ops.minimum(r, self.rmax)
        if self.dmax is not None:
            d = ops.clip(d, -self.dmax, self.dmax)
        s = sigma / ops.stop_gradient(r)
        return mean - ops.stop_gradient(d) * s, ops.square(s) - epsilon

    def moved(self, moving, batch, momentum, epsilon):
        """`Moving` after a batch of `Moments`; see `moments.moved`."""
        stddev = Moments(batch.mean, ops.sqrt(batch.variance + epsilon), batch.count)
        mean, inference = moved(
            (moving.moving_mean, moving.moving_stddev), stddev, momentum
        )
        training = moved(
            (moving.renorm_mean, moving.renorm_stddev), stddev, self.momentum
        )
        variance = ops.maximum(ops.square(inference) - epsilon, 0)
        if not isinstance(batch.count, int):
            seen = ops.reshape(batch.count, (-1,)) > 0
            variance = ops.where(seen, variance, moving.moving_variance)
        return Moving(mean, variance, inference, *training)
