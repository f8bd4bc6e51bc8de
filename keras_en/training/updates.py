"""Updates of the weights by the gradients of whole global batches."""

import keras

from keras_en.arguments import check
from keras_en.ops.replicas import all_reduce
from keras_en.training import keras_private


class Updates:
    """Gradients of each replica, accumulated, then summed over the replicas, and only
    then unscaled, clipped and applied by the optimizer.

    Sums before clipping are what makes a step of several replicas one of a single
    device. Each replica accumulates its own gradients: one sum an update is enough.

    Attributes:
        every: Steps an update, of an optimizer that accumulates gradients; or 1.
    """

    def __init__(self, optimizer, replicas):
        self._optimizer, self._replicas = optimizer, replicas
        self._inner = keras_private.inner_optimizer(optimizer)
        self.every = self._inner.gradient_accumulation_steps or 1

    def enabled(self):
        """A context, inside of which `apply` may be called."""
        of_all = keras_private.optimizers_of(self._inner)
        ema = self._inner.use_ema
        allowed = "compiled with use_ema=False, or no gradient_accumulation_steps"
        check(self.every == 1 or not ema, "model", allowed, ema, "optimizer.use_ema")
        inner = [o.gradient_accumulation_steps for o in of_all[1:]]
        allowed = "compiled with parts of MultiOptimizer that accumulate no gradients"
        check(not any(inner), "model", allowed, inner, "gradient_accumulation_steps")
        often = [o.ema_overwrite_frequency for o in of_all if o.use_ema]
        allowed = "compiled without ema_overwrite_frequency for several replicas"
        alone = self._replicas == 1 or not any(often)
        check(alone, "model", allowed, often, "ema_overwrite_frequency")
        return keras_private.whole_gradients(self._inner)

    def accumulate(self, gradients, variables):
        """A step without an update: the gradients wait for the next that has one."""
        sums = keras_private.accumulators(self._inner, variables)
        for total, gradient in zip(sums, gradients, strict=True):
            total.assign_add(gradient)
        keras_private.count_step(self._inner)

    def apply(self, gradients, variables):
        """A step with an update, by these gradients and those that wait for it."""
        sums = keras_private.accumulators(self._inner, variables)
        if sums:
            pairs = zip(sums, gradients, strict=True)
            gradients = [(total + gradient) / self.every for total, gradient in pairs]
        if self._replicas > 1:
            gradients = _sum_over_replicas(gradients)
        self._optimizer.apply(gradients, variables)
        if self.every > 1:
            keras_private.count_whole_updates(self._inner, self.every)
        for total in sums:
            total.assign(keras.ops.zeros_like(total.value))


def _sum_over_replicas(gradients):
    """The sum of each, in one all-reduce a dtype."""
    sums = {}
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        alike = [gradient for gradient in gradients if gradient.dtype == dtype]
        sums[dtype] = iter(all_reduce(alike))
    return [next(sums[gradient.dtype]) for gradient in gradients]
