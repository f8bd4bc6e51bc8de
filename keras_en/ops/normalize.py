"""One call of the layer as a pure function of tensors."""

import functools
from typing import NamedTuple

import keras
from keras import ops

from keras_en.ops import affine, moments, replicas
from keras_en.ops.exemplar import Mixture
from keras_en.ops.spatial import fuses
from keras_en.ops.switchable import Switch

MOVING = ("moving_mean", "moving_variance")


class Normalize(NamedTuple):
    """What a call computes, apart from the tensors it is computed from.

    - `mixture`: `Mixture` or `Switch`.
    - `names`: names of the tensors, in their order: "x"; "mask" if there is one;
      `MOVING` if the pool holds "batch"; the weights that `mixture.fold` takes.
    - `axis`: positive integer, the channel axis of "x".
    - `training`: whether derivatives will be asked for.
    - `momentum`: that of the moving statistics, or `None` where they stand for those
      of the batch.
    - `synchronized`: whether the batch is that of all replicas.
    - `dtype`: of the statistics. `compute_dtype`: of the outputs.
    """

    mixture: Mixture | Switch
    names: tuple
    axis: int
    training: bool
    momentum: float | None
    synchronized: bool
    dtype: str
    compute_dtype: str

    def __call__(self, *tensors):
        """Outputs of the shape of "x"; ratios `(N, K)` or `None`; with a momentum the
        new moving statistics, `(C,)` each."""
        t = dict(zip(self.names, tensors, strict=True))
        x = ops.cast(t.pop("x"), self.dtype)
        mean, variance, *batch = replicas.part(self._moments)(x, t.pop("mask", None))
        moving, moved = [t.pop(name) for name in MOVING if name in t], []
        if self.momentum is not None:
            own = batch = moments.Moments(*batch)
            # In all replicas the same, whatever the outputs are computed from.
            batch = replicas.merge(own)
            moved = moments.moved(moving, batch, self.momentum)
            moving = (batch if self.synchronized else own)[:2]
        if moving:
            t.update(batch_mean=moving[0], batch_variance=moving[1])
        t.update(mean=mean, variance=variance)
        outputs, shares = replicas.part(self._apply)(x, t)
        return outputs, shares, *moved

    def _moments(self, x, mask):
        """Mean and variance of each sample; with a momentum those of the batch, and
        its count."""
        sample = moments.per_sample(x, self.axis, mask, self.training)
        batch = moments.over_batch(*sample) if self.momentum is not None else ()
        return sample.mean, sample.variance, *batch

    def _apply(self, x, tensors):
        a, b, shares = self.mixture.fold(tensors, self.training)
        outputs = affine.scale_and_shift(x, a, b, self.axis, self.training)
        return ops.cast(outputs, self.compute_dtype), shares

    def once(self, tensors, ratios):
        """As a call; where TensorFlow traces a training step, once for all layers of
        the same kind and shape.

        Args:
            tensors: In the order of `names`.
            ratios: Whether they are wanted; `None` may stand for them otherwise.
        """
        if not self.training or keras.backend.backend() != "tensorflow":
            return self(*tensors)
        import tensorflow as tf

        if tf.executing_eagerly():
            return self(*tensors)
        # A collective must be reached in the replica's own graph.
        collective = self.momentum is not None and replicas.count() > 1
        if collective or not self.mixture.pure:
            return self(*tensors)
        specs = tuple((tuple(t.shape), t.dtype) for t in tensors)
        outputs, shares, moved = _function(self, ratios, specs, fuses())(*tensors)
        return outputs, shares, *(tf.bitcast(m, self.dtype) for m in moved)


# Without this the first step of a ResNet-50 takes 3.4 times as long as that with
# BatchNormalization; see `benchmarks/model_speed.py`.
@functools.lru_cache(maxsize=512)
def _function(normalize, ratios, specs, fuses):
    """A `tf.function` for one signature.

    One for all would let a trace for unknown sizes serve known ones, which need fewer
    nodes.
    """
    import tensorflow as tf

    # Not int32, which TensorFlow keeps in the memory of the host.
    integer = {"float32": tf.uint32, "float64": tf.uint64}[normalize.dtype]

    # Grappler makes a copy for every call with a constant input or an unused output.
    # A float output without a derivative is the former: the derivative is a constant 0.
    def traced(*tensors):
        outputs, shares, *moved = normalize(*tensors)
        moved = [tf.bitcast(m, integer) for m in moved]
        return outputs, shares if ratios else None, moved

    return tf.function(
        traced,
        autograph=False,
        # Inlined, its nodes would be optimized again for every layer.
        experimental_attributes={"_noinline": True},
    )
