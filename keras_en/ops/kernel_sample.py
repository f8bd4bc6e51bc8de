"""The ratio head of one sample, in the registers of a GPU; see `ops.kernels`."""

import functools
import operator

import numpy as np


def triton():
    from jax.experimental.pallas import triton

    return triton


def store(ref, values, size):
    triton().store(ref.at[np.int64(0), :], values, mask=below(size, values.shape[0]))


def below(size, length):
    import jax.numpy as jnp

    return jnp.arange(length) < size


class Sample:
    """The head of one sample, in registers: vectors of `P` channels and `Q` units, 0
    behind `C` and `H`, and scalars. Every line is one of `ExemplarMixture`."""

    def __init__(self, head, refs):
        import jax.numpy as jnp

        self.mixture = head.mixture
        self.channels, self.hidden = head.channels, head.hidden
        self.refs = dict(zip(head.names, refs, strict=True))
        self.mean = self.load("mean", self.channels)
        self.inverses, self.x_hat, self.deviations = [], [], []
        for name in self.mixture.pool:
            mean, variance = self._statistics_of(name)
            deviation = self._within(self.mean - mean)
            self.deviations.append(deviation)
            self.inverses.append(1 / jnp.sqrt(variance + head.epsilon))
            self.x_hat.append(deviation * self.inverses[-1])
        self.z = self.x_hat
        if "ratio_conv" in self.refs:
            conv = self.load("ratio_conv", self.channels)
            self.z = [jnp.sum(self._grouped(x * conv), axis=1) for x in self.x_hat]
        self.features = [[jnp.sum(z * other) for other in self.z] for z in self.z]
        units = self.load("ratio_hidden_bias", self.hidden)
        for feature, kernel in self._hidden_rows():
            units = units + feature * kernel
        self.units, self.active = units, self.mixture.activation(units)
        logits = [
            jnp.sum(self.active * kernel) + self.refs["ratio_output_bias"][0, i]
            for i, kernel in enumerate(self._output_columns())
        ]
        top = functools.reduce(jnp.maximum, logits)
        powers = [jnp.exp(logit - top) for logit in logits]
        self.shares = [power / _total(powers) for power in powers]
        self.scales = self.shares
        if "gamma" in self.refs:
            pairs = zip(self.shares, self._gammas(), strict=True)
            self.scales = [share * gamma for share, gamma in pairs]

    def outputs(self):
        """`a` and `b`."""
        pairs = list(zip(self.scales, self.inverses, self.x_hat, strict=True))
        a = _total([scale * inverse for scale, inverse, _ in pairs])
        b = _total([scale * x_hat for scale, _, x_hat in pairs]) - self.mean * a
        if "beta" in self.refs:
            b = b + _total(self._rows("beta"))
        return a, b

    def backward(self, da, db, d_shares):
        """The gradients by all that was read: a vector by `mean` and by `variance`,
        and lists of rows by what all samples share."""
        import jax
        import jax.numpy as jnp

        a, _ = self.outputs()
        d_mean = -(a * db)
        da = da - self.mean * db
        d_scales = [
            da * inverse + db * x_hat
            for inverse, x_hat in zip(self.inverses, self.x_hat, strict=True)
        ]
        rows = {"beta": [db]}
        rows["gamma"] = [s * d for s, d in zip(self.shares, d_scales, strict=True)]
        if "gamma" in self.refs:
            if self.refs["gamma"].shape[0] == 1:
                rows["gamma"] = [_total(rows["gamma"])]
            pairs = zip(d_scales, self._gammas(), strict=True)
            d_scales = [d * gamma for d, gamma in pairs]
        d_shares = [d + jnp.sum(s) for d, s in zip(d_shares, d_scales, strict=True)]
        # The two dense layers.
        products = [s * d for s, d in zip(self.shares, d_shares, strict=True)]
        d_logits = [
            product - share * _total(products)
            for product, share in zip(products, self.shares, strict=True)
        ]
        columns = zip(d_logits, self._output_columns(), strict=True)
        d_active = _total([d * kernel for d, kernel in columns])
        (d_units,) = jax.vjp(self.mixture.activation, self.units)[1](d_active)
        rows["ratio_output_kernel"] = [d * self.active for d in d_logits]
        rows["ratio_output_bias"] = d_logits
        rows["ratio_hidden_bias"] = [d_units]
        pairs = list(self._hidden_rows())
        rows["ratio_hidden_kernel"] = [feature * d_units for feature, _ in pairs]
        d_features = [jnp.sum(d_units * kernel) for _, kernel in pairs]
        d_x_hat, rows["ratio_conv"] = self._correlation_backward(d_features)
        d_x_hat = [d + s * db for d, s in zip(d_x_hat, self.scales, strict=True)]
        d_inverses = [scale * da for scale in self.scales]
        return rows | self._statistics_backward(d_mean, d_inverses, d_x_hat)

    def _correlation_backward(self, d_features):
        import jax.numpy as jnp

        k, d_x_hat, d_conv = len(self.z), [], []
        for i, x_hat in enumerate(self.x_hat):
            both = [d_features[i * k + j] + d_features[j * k + i] for j in range(k)]
            dz = _total([d * z for d, z in zip(both, self.z, strict=True)])
            if "ratio_conv" in self.refs:
                grouped = self._grouped(x_hat)
                dz = jnp.broadcast_to(dz[:, None], grouped.shape).reshape(x_hat.shape)
                d_conv.append(dz * x_hat)
                dz = dz * self.load("ratio_conv", self.channels)
            d_x_hat.append(dz)
        return d_x_hat, [_total(d_conv)] if d_conv else []

    def _statistics_backward(self, d_mean, d_inverses, d_x_hat):
        import jax.numpy as jnp

        rows, d_variance = {}, jnp.zeros_like(d_mean)
        for i, name in enumerate(self.mixture.pool):
            inverse = self.inverses[i]
            by_logarithm = d_inverses[i] * inverse + d_x_hat[i] * self.x_hat[i]
            by_variance = self._within(by_logarithm * inverse * inverse * -0.5)
            if name == "instance":
                d_variance = d_variance + by_variance
                continue
            by_deviation = self._within(d_x_hat[i] * inverse)
            d_mean = d_mean + by_deviation
            if name == "batch":
                rows["batch_mean"] = [-by_deviation]
                rows["batch_variance"] = [by_variance]
                continue
            spread = self._average(by_variance, name)
            d_mean = d_mean - self._average(by_deviation, name)
            d_mean = d_mean + self.deviations[i] * (2 * spread)
            d_variance = d_variance + spread
        return rows | {"mean": d_mean, "variance": d_variance}

    def _statistics_of(self, name):
        if name == "batch":
            return tuple(
                self.load(f"batch_{part}", self.channels)
                for part in ("mean", "variance")
            )
        variance = self.load("variance", self.channels)
        if name == "instance":
            return self.mean, variance
        mean = self._average(self.mean, name)
        squares = self._within(self.mean - mean) ** 2
        return mean, self._average(variance + squares, name)

    def _average(self, values, name):
        """Over the channels of a group, or of all; `values` are 0 behind `C`."""
        import jax.numpy as jnp

        if name == "layer":
            return jnp.sum(values) / self.channels
        grouped = values.reshape(self.mixture.groups, -1)
        means = jnp.sum(grouped, axis=1, keepdims=True) / grouped.shape[1]
        return jnp.broadcast_to(means, grouped.shape).reshape(values.shape)

    def _within(self, values):
        import jax.numpy as jnp

        return jnp.where(below(self.channels, values.shape[0]), values, 0)

    def _grouped(self, values):
        return values.reshape(-1, self.mixture.reduction)

    def _gammas(self):
        rows = self._rows("gamma")
        return rows if len(rows) > 1 else rows * len(self.shares)

    def _rows(self, name):
        """Those of gamma or beta: one a normalizer, or one."""
        # A block has a power of two of them.
        count = min(self.refs[name].shape[0], len(self.mixture.pool))
        return [self.load(name, self.channels, i) for i in range(count)]

    def _hidden_rows(self):
        """Each feature, and the row of the kernel that it is multiplied by."""
        features = [feature for row in self.features for feature in row]
        for i, feature in enumerate(features):
            yield feature, self.load("ratio_hidden_kernel", self.hidden, i)

    def _output_columns(self):
        ref = self.refs["ratio_output_kernel"]
        mask = below(self.hidden, ref.shape[0])
        for i in range(len(self.mixture.pool)):
            yield triton().load(ref.at[:, np.int64(i)], mask=mask, other=0.0)

    def load(self, name, size, row=0):
        """A row of a tensor, by its name or as it is, 0 behind `size`."""
        ref = self.refs[name] if isinstance(name, str) else name
        mask = below(size, ref.shape[1])
        return triton().load(ref.at[np.int64(row), :], mask=mask, other=0.0)


def _total(terms):
    return functools.reduce(operator.add, terms)
