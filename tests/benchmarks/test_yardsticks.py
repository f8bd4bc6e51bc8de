"""The layer as printed, which benchmarks compare with, is the same layer."""

import numpy as np

from benchmarks.yardsticks import Printed
from keras_en import ExemplarNormalization
from tests.backends import BACKEND, images, numpy, randomize


def trained(layer, x):
    """Its outputs in training, compiled on JAX, as benchmarks do."""
    if BACKEND != "jax":
        return layer(x, training=True)
    import jax

    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]
    call = jax.jit(lambda *values: layer.stateless_call(*values, training=True)[0])
    return call(trainable, state, x)


def test_as_printed(rng):
    x = images(rng, (3, 4, 4, 8))
    ours, printed = ExemplarNormalization(), Printed()
    for layer in (ours, printed):
        layer.build(x.shape)
    values = randomize(ours, rng)
    for variable in printed.variables:
        variable.assign(values[variable.name])
    expected = numpy(trained(ours, x))
    np.testing.assert_allclose(numpy(trained(printed, x)), expected, atol=1e-4)
