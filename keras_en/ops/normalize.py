"""One call of a layer as a pure function of tensors."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_en.ops import moments, replicas, tracing
from keras_en.ops.exemplar import ExemplarMixture, ExemplarWeights
from keras_en.ops.gradients import tensors_of
from keras_en.ops.moments import Statistics
from keras_en.ops.renorm import Moving, Renorm
from keras_en.ops.spatial import scale_and_shift
from keras_en.ops.switchable import SwitchableMixture, SwitchableWeights


class Inputs(NamedTuple):
    """The tensors of a call.

    - `x`: `(N, spatial..., C)`. `mask`: see `moments.per_sample`, or `None`.
    - `moving`: moving mean and variance, `(C,)` each, or the tensors of
      `renorm.Moving`; `None` without "batch".
    - `weights`: of the mixture.
    """

    x: Any
    mask: Any
    moving: tuple | None
    weights: ExemplarWeights | SwitchableWeights


class Outputs(NamedTuple):
    """What a call computes.

    - `y`: of the shape of `x`. `ratios`: `(N, K)`, or `None`.
    - `moving`: the new moving statistics, or `None` where they stay.
    """

    y: Any
    ratios: Any
    moving: tuple | None


class Normalize(NamedTuple):
    """What a call computes, apart from the tensors it is computed from.

    - `mixture`: how statistics become scale and shift.
    - `axis`: positive integer, the channel axis of `x`.
    - `epsilon`: added to each variance.
    - `momentum`: that of the moving statistics, or `None` where they stand for those
      of the batch.
    - `renorm`: `renorm.Renorm`, or `None`.
    - `synchronized`: whether the batch is that of all replicas.
    - `training`: whether gradients will be asked for.
    - `dtype`: of the statistics. `compute_dtype`: of `y`.
    """

    mixture: ExemplarMixture | SwitchableMixture
    axis: int
    epsilon: float
    momentum: float | None
    renorm: Renorm | None
    synchronized: bool
    training: bool
    dtype: str
    compute_dtype: str

    def __call__(self, inputs):
        """`Outputs` of `Inputs`."""
        x, moving = ops.cast(inputs.x, self.dtype), None
        sample, own = tracing.island(self._moments)(x, inputs.mask, inputs.x)
        batch = (inputs.moving or (None, None))[:2]
        if self.momentum is not None:
            # In all replicas the same, whatever the outputs are computed from.
            # But for loops, where replicas cannot meet.
            alone = tracing.is_control_flow() and not self.synchronized
            merged = own if alone else replicas.merge(own)
            batch = (merged if self.synchronized else own)[:2]
            if self.renorm is None:
                moving = moments.moved(inputs.moving, merged, self.momentum)
            else:
                old = Moving(*inputs.moving)
                batch = self.renorm.corrected(batch, old, self.epsilon)
                moving = self.renorm.moved(old, merged, self.momentum, self.epsilon)
        statistics = Statistics(*sample[:2], *batch)
        y, ratios = tracing.island(self._apply)(
            x, statistics, inputs.weights, sample.count
        )
        return Outputs(y, ratios, moving)

    def _moments(self, x, mask, source):
        """`Moments` of each sample, with a count where it differs by channel only, and
        with a momentum those of the batch, otherwise `None`."""
        sample = moments.per_sample(x, self.axis, mask, self.training, source)
        batch = None if self.momentum is None else moments.over_batch(*sample)
        if mask is None or self.axis == len(x.shape) - 1:
            sample = sample._replace(count=None)
        return sample, batch

    def _apply(self, x, statistics, weights, count):
        a, b, ratios = self.mixture.fold(
            statistics, weights, self.epsilon, self.training, count
        )
        y = scale_and_shift(x, a, b, self.axis, self.training)
        return ops.cast(y, self.compute_dtype), ratios

    def traced_once(self, inputs, return_ratios):
        """As a call; where a training step is traced, once for all layers of the same
        kind and shape.

        Args:
            inputs: `Inputs`.
            return_ratios: Whether they are wanted; `None` may stand for them otherwise.
        """
        # A collective must be reached in the replica's own graph.
        collective = self.momentum is not None and replicas.count() > 1
        shared = self.training and self.mixture.pure and not collective
        if shared and tracing.is_jit(inputs.x):
            return Outputs(*_jitted(self)(inputs))
        if not (shared and tracing.is_graph()):
            return self(inputs)
        # Through functions TensorFlow's forward mode gets 0 of gradients of gradients.
        if tracing.is_forward_mode(tensors_of(inputs)):
            return self(inputs)
        import tensorflow as tf

        specs = keras.tree.map_structure(
            lambda t: None if t is None else (tuple(t.shape), t.dtype), inputs
        )
        function = _shared_function(self, return_ratios, specs, tracing.is_xla_on_cpu())
        outputs = Outputs(*function(inputs))
        if outputs.moving is None:
            return outputs
        moving = tuple(tf.bitcast(value, self.dtype) for value in outputs.moving)
        return outputs._replace(moving=moving)


@functools.lru_cache(maxsize=512)
def _jitted(normalize):
    """For JAX, which inlines it in the end."""
    import jax

    # A function: JAX keeps weak references, which named tuples cannot have.
    return jax.jit(lambda inputs: normalize(inputs))


# Without this the first step of a ResNet-50 takes 3.4 times as long as that with
# BatchNormalization; see `benchmarks/model_speed.py`.
@functools.lru_cache(maxsize=512)
def _shared_function(normalize, return_ratios, specs, xla_on_cpu):
    """A `tf.function` for one signature.

    One for all would let a trace for unknown sizes serve fixed ones, which need fewer
    nodes.
    """
    import tensorflow as tf

    # Not int32, which TensorFlow keeps in the memory of the host.
    integer = {"float32": tf.uint32, "float64": tf.uint64}[normalize.dtype]

    # Grappler makes a copy for every call with a constant input or an unused output.
    # A float output without a gradient is the former: the gradient is a constant 0.
    def traced(inputs):
        y, ratios, moving = normalize(inputs)
        if moving is not None:
            moving = tuple(tf.bitcast(value, integer) for value in moving)
        return y, ratios if return_ratios else None, moving

    return tf.function(
        traced,
        autograph=False,
        # Inlined, its nodes would be optimized again for every layer.
        experimental_attributes={"_noinline": True},
    )
