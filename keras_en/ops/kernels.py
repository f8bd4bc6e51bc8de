"""The ratio head as one kernel each way, for JAX on CUDA devices.

XLA makes 8 kernels of the head's forward pass and some 20 of its backward pass, all
tiny: sums along `C` and along `N`, two dense layers, a softmax. Here one program
computes what belongs to one sample, in registers. The plain form in `ops.exemplar`
remains the reference, and is what other devices run.

Symbols: `N` samples, `K` normalizers, `C` channels, `H` hidden units; `P` and `Q` the
next powers of two of `C` and `H`, which the language of these kernels wants.
"""

import functools
import operator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.ops import tracing
from keras_en.ops.gradients import packed, tensors_of
from keras_en.ops.platforms import Programs

# Channels that registers hold.
_MOST = 4096
_ACTIVATIONS = (keras.activations.tanh, keras.activations.relu)


def fits(mixture, statistics, count):
    """Whether these kernels compute a mixture, and the machine is one for them."""
    if keras.backend.backend() != "jax" or tracing.platform() != "gpu":
        return False
    channels = statistics.mean.shape[1]
    powers = [mixture.reduction or 1]
    if "group" in mixture.pool:
        powers += [channels, mixture.groups]
    return (
        count is None
        and len(mixture.pool) > 1
        and mixture.ratio_head == "correlation"
        and mixture.activation in _ACTIVATIONS
        and channels <= _MOST
        and all(n == _power(n) for n in powers)
        and keras.backend.standardize_dtype(statistics.mean.dtype) == "float32"
        # A kernel knows nothing of many devices: each would compute all samples.
        and keras.distribution.distribution() is None
    )


def _power(n):
    """The least power of two that is not below `n`."""
    return 1 << (n - 1).bit_length()


class Head(NamedTuple):
    """What the kernels are made for.

    - `mixture`: `ExemplarMixture`. `epsilon`: a float.
    - `names`: of the tensors they read, in order: fields of `Statistics` and
      `ExemplarWeights`.
    - `channels`, `hidden`: `C` and `H`.
    """

    mixture: Any
    epsilon: float
    names: tuple
    channels: int
    hidden: int

    @classmethod
    def of(cls, mixture, epsilon, statistics, weights):
        tensors = {**statistics._asdict(), **weights._asdict()}
        names = tuple(name for name, tensor in tensors.items() if tensor is not None)
        hidden = weights.ratio_hidden_kernel.shape[1]
        return cls(mixture, epsilon, names, statistics.mean.shape[1], hidden)

    def passes(self, forward, backward):
        """The two passes of `with_backward`, as kernels where the device has them.

        Args:
            forward, backward: The plain passes, of constants `(None,)`. Without
                residuals: what the kernel backward needs it computes again.
        """

        def fused(constants, inputs):
            def plain(*tensors):
                return forward(constants, packed(inputs, tensors))[0]

            tensors = tensors_of(inputs)
            shapes = [tensors[0].shape] * 2 + [
                (len(tensors[0]), len(self.mixture.pool))
            ]
            shapes = tuple((shape, tensors[0].dtype) for shape in shapes)
            outputs = Programs(plain, self.forward_kernel, shapes)(*tensors)
            return tuple(outputs), ()

        def fused_backward(constants, inputs, _, upstream):
            structure = inputs, upstream

            def plain(*tensors):
                inputs, upstream = packed(structure, tensors)
                _, residuals = forward(constants, inputs)
                return tensors_of(backward(constants, inputs, residuals, upstream))

            shapes = tuple((t.shape, t.dtype) for t in tensors_of(inputs))
            programs = Programs(plain, self.backward_kernel, shapes)
            return packed(inputs, programs(*tensors_of(structure)))

        return fused, fused_backward

    def forward_kernel(self, *tensors):
        import jax

        n, k = tensors[0].shape[0], len(self.mixture.pool)
        shapes = [(n, self.channels), (n, self.channels), (n, k)]

        def kernel(*refs):
            inputs, (a, b, ratios) = refs[: len(tensors)], refs[len(tensors) :]
            sample = _Sample(self, inputs)
            for ref, values in zip((a, b), sample.outputs(), strict=True):
                _store(ref, values, self.channels)
            for i, share in enumerate(sample.shares):
                ratios[0, i] = share

        outputs = [jax.ShapeDtypeStruct(shape, tensors[0].dtype) for shape in shapes]
        return self._call(kernel, tensors, (), outputs)

    def backward_kernel(self, *tensors):
        """Gradients by the two statistics of each sample come out as they are, and
        those by what all samples share as one row a sample, which one sum adds up."""
        import jax
        import jax.numpy as jnp

        n, count = tensors[0].shape[0], len(self.names)
        inputs, upstream = tensors[:count], tensors[count:]
        places, size = self._places(inputs)

        def kernel(*refs):
            sample = _Sample(self, refs[:count])
            da, db, d_ratios, d_mean, d_variance, row = refs[count:]
            d_ratios = [d_ratios[0, i] for i in range(len(self.mixture.pool))]
            by_outputs = (sample.load(ref, self.channels) for ref in (da, db))
            gradients = sample.backward(*by_outputs, d_ratios)
            _store(d_mean, gradients["mean"], self.channels)
            _store(d_variance, gradients["variance"], self.channels)
            for name, (start, length, _) in places.items():
                for i, values in enumerate(gradients[name]):
                    begin = start + i * length
                    if isinstance(values, list):
                        for j, value in enumerate(values):
                            row[0, begin + j] = value
                    else:
                        row[0, begin : begin + length] = values

        shapes = [(n, self.channels), (n, self.channels), (n, size)]
        outputs = [jax.ShapeDtypeStruct(shape, tensors[0].dtype) for shape in shapes]
        d_mean, d_variance, rows = self._call(kernel, inputs, upstream, outputs)
        total = jnp.sum(rows, axis=0)
        results = [d_mean, d_variance]
        for name, tensor in zip(self.names[2:], inputs[2:], strict=True):
            start, length, count = places[name]
            values = total[start : start + count * length].reshape(count, length)
            if name == "ratio_output_kernel":
                values = values[:, : tensor.shape[0]].T
            else:
                values = values[:, : tensor.shape[-1]]
                values = jnp.broadcast_to(
                    values, (tensor.size // values.shape[1], values.shape[1])
                )
            results.append(values.reshape(tensor.shape))
        return results

    def _places(self, tensors):
        """Of what all samples share, by name: where its rows begin in a sample's row,
        how long each is and how many they are; and the length of the whole."""
        k, wide, units = (
            len(self.mixture.pool),
            _power(self.channels),
            _power(self.hidden),
        )
        tensors = dict(zip(self.names, tensors, strict=True))
        rows = {
            "batch_mean": (wide, 1),
            "batch_variance": (wide, 1),
            "gamma": (wide, k),
            "beta": (wide, 1),
            "ratio_conv": (wide, 1),
            "ratio_hidden_kernel": (units, k * k),
            "ratio_hidden_bias": (units, 1),
            "ratio_output_kernel": (units, k),
            "ratio_output_bias": (_power(k), 1),
        }
        places, start = {}, 0
        for name in self.names[2:]:
            length, count = rows[name]
            if tensors[name].ndim == 1:
                count = 1
            places[name] = start, length, count
            start += length * count
        return places, start

    def _call(self, kernel, tensors, upstream, outputs):
        from jax.experimental import pallas

        samples = tensors[0].shape[0]

        def of_sample(shape):
            return pallas.BlockSpec((1, _power(shape[1])), lambda n: (n, 0))

        def of_all(shape):
            return pallas.BlockSpec(tuple(map(_power, shape)), lambda n: (0, 0))

        matrices = [t.reshape((-1, t.shape[-1])) for t in tensors]
        specs = [of_sample(t.shape) for t in matrices[:2]]
        specs += [of_all(t.shape) for t in matrices[2:]]
        specs += [of_sample(t.shape) for t in upstream]
        warps = max(_power(self.channels), _power(self.hidden)) // 128
        return pallas.pallas_call(
            kernel,
            grid=(samples,),
            in_specs=specs,
            out_specs=[of_sample(o.shape) for o in outputs],
            out_shape=outputs,
            compiler_params=_triton().CompilerParams(num_warps=min(max(warps, 1), 16)),
            name="ratio_head",
        )(*matrices, *upstream)


def _triton():
    from jax.experimental.pallas import triton

    return triton


def _store(ref, values, size):
    _triton().store(ref.at[np.int64(0), :], values, mask=_below(size, values.shape[0]))


def _below(size, length):
    import jax.numpy as jnp

    return jnp.arange(length) < size


class _Sample:
    """The head of one sample, in registers: vectors of `P` channels and `Q` units, 0
    behind `C` and `H`, and scalars. Every line is one of `ExemplarMixture`."""

    def __init__(self, head, refs):
        import jax.numpy as jnp

        self.mixture, self.channels, self.hidden = (
            head.mixture,
            head.channels,
            head.hidden,
        )
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
        d_active = _total(
            [
                d * kernel
                for d, kernel in zip(d_logits, self._output_columns(), strict=True)
            ]
        )
        (d_units,) = jax.vjp(self.mixture.activation, self.units)[1](d_active)
        rows["ratio_output_kernel"] = [d * self.active for d in d_logits]
        rows["ratio_output_bias"] = [d_logits]
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

        return jnp.where(_below(self.channels, values.shape[0]), values, 0)

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
        mask = _below(self.hidden, ref.shape[0])
        for i in range(len(self.mixture.pool)):
            yield _triton().load(ref.at[:, np.int64(i)], mask=mask, other=0.0)

    def load(self, name, size, row=0):
        """A row of a tensor, by its name or as it is, 0 behind `size`."""
        ref = self.refs[name] if isinstance(name, str) else name
        mask = _below(size, ref.shape[1])
        return _triton().load(ref.at[np.int64(row), :], mask=mask, other=0.0)


def _total(terms):
    return functools.reduce(operator.add, terms)
