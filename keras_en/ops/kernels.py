"""The ratio head as one kernel each way, for JAX on CUDA devices.

XLA makes 8 kernels of the head's forward pass and some 20 of its backward pass, all
tiny: sums along `C` and along `N`, two dense layers, a softmax. Here one program
computes what belongs to one sample, in registers. The plain form in `ops.exemplar`
remains the reference, and is what other devices run.

Symbols: `N` samples, `K` normalizers, `C` channels, `H` hidden units; `P` and `Q` the
next powers of two of `C` and `H`, which the language of these kernels wants.
"""

from typing import Any, NamedTuple

import keras

from keras_en.ops import tracing
from keras_en.ops.gradients import packed, tensors_of
from keras_en.ops.kernel_sample import Sample, store, triton
from keras_en.ops.platforms import Programs

# Channels that registers hold.
_MOST = 4096
_ACTIVATIONS = (keras.activations.tanh, keras.activations.relu)


def fits(mixture, statistics, count):
    """Whether these kernels compute a mixture, and the machine is one for them."""
    if keras.backend.backend() != "jax" or tracing.platform() != "gpu":
        return False
    samples, channels = statistics.mean.shape
    powers = [mixture.reduction or 1]
    if "group" in mixture.pool:
        powers += [channels, mixture.groups]
    return (
        count is None
        and isinstance(samples, int)
        and samples > 0
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
            shapes = tuple((s, tensors[0].dtype) for s in self._shapes(tensors))
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

    def _shapes(self, tensors):
        """Those of `a`, `b` and the ratios."""
        n = tensors[0].shape[0]
        return [(n, self.channels), (n, self.channels), (n, len(self.mixture.pool))]

    def forward_kernel(self, *tensors):
        import jax

        def kernel(*refs):
            inputs, (a, b, ratios) = refs[: len(tensors)], refs[len(tensors) :]
            sample = Sample(self, inputs)
            for ref, values in zip((a, b), sample.outputs(), strict=True):
                store(ref, values, self.channels)
            for i, share in enumerate(sample.shares):
                ratios[0, i] = share

        shapes, dtype = self._shapes(tensors), tensors[0].dtype
        outputs = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
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
            sample = Sample(self, refs[:count])
            da, db, d_ratios, d_mean, d_variance, row = refs[count:]
            d_ratios = [d_ratios[0, i] for i in range(len(self.mixture.pool))]
            by_outputs = (sample.load(ref, self.channels) for ref in (da, db))
            gradients = sample.backward(*by_outputs, d_ratios)
            store(d_mean, gradients["mean"], self.channels)
            store(d_variance, gradients["variance"], self.channels)
            for name, (start, length, _) in places.items():
                for i, values in enumerate(gradients[name]):
                    begin = start + i * length
                    row[0, begin : begin + length] = values.reshape(length)

        shapes = [(n, self.channels), (n, self.channels), (n, size)]
        outputs = [jax.ShapeDtypeStruct(shape, tensors[0].dtype) for shape in shapes]
        d_mean, d_variance, samples = self._call(kernel, inputs, upstream, outputs)
        total = jnp.sum(samples, axis=0)
        results = [d_mean, d_variance]
        for name, tensor in zip(self.names[2:], inputs[2:], strict=True):
            start, length, count = places[name]
            values = total[start : start + count * length].reshape(count, length)
            if name.startswith("ratio_output"):
                values = values[:, : tensor.size // count].T
            else:
                width = tensor.shape[-1]
                shape = (tensor.size // width, width)
                values = jnp.broadcast_to(values[:, :width], shape)
            results.append(values.reshape(tensor.shape))
        return results

    def _places(self, tensors):
        """Of what all samples share, by name: where its rows begin in a sample's row,
        how long each is and how many they are; and the length of the whole."""
        k = len(self.mixture.pool)
        wide, units = _power(self.channels), _power(self.hidden)
        shapes = {n: t.shape for n, t in zip(self.names, tensors, strict=True)}
        shared = len(shapes.get("gamma", ())) == 1
        rows = {
            "batch_mean": (wide, 1),
            "batch_variance": (wide, 1),
            "gamma": (wide, 1 if shared else k),
            "beta": (wide, 1),
            "ratio_conv": (wide, 1),
            "ratio_hidden_kernel": (units, k * k),
            "ratio_hidden_bias": (units, 1),
            "ratio_output_kernel": (units, k),
            "ratio_output_bias": (1, k),
        }
        places, start = {}, 0
        for name in self.names[2:]:
            length, count = rows[name]
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
            compiler_params=triton().CompilerParams(num_warps=min(max(warps, 1), 16)),
            name="ratio_head",
        )(*matrices, *upstream)
