"""Forward mode of JAX through the derivatives that are written by hand, in float64."""

import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends, reference
from tests.backends import images, numpy

pytestmark = pytest.mark.skipif(
    backends.BACKEND != "jax", reason="TensorFlow's forward mode is not Keras's"
)
OPTIONS = {"expansion": 2, "ratio_activation": "linear", "dtype": "float64"}


def function_of(layer, mask=None):
    """The layer in training as a function of its gamma and input."""
    _, *others = (v.value for v in layer.trainable_variables)
    state = [v.value for v in layer.non_trainable_variables]

    def function(gamma, x):
        weights = [gamma, *others]
        return layer.stateless_call(weights, state, x, training=True, mask=mask)[0]

    return function


def test_a_direction_by_hand():
    """Of the batch `[-d, d]` with epsilon 1 the outputs are `d / sqrt(d^2 + 1) [-1, 1]`
    and move by `(d^2 + 1)^(-3/2)` as `d` does."""
    import jax

    layer = ExemplarNormalization(normalizers=["batch"], epsilon=1.0, **OPTIONS)
    layer.build((2, 1))
    x = np.array([[-1.0], [1.0]])
    function, gamma = function_of(layer), layer.gamma.value
    run = jax.jit(lambda x: jax.jvp(lambda x: function(gamma, x), (x,), (x,)))
    _, dy = run(x)
    np.testing.assert_allclose(numpy(dy).ravel(), [-(2**-1.5), 2**-1.5])


@pytest.mark.parametrize(
    "shape, axis, masked", [((3, 4, 2, 4), 1, True), ((5, 4), -1, False)], ids=str
)
def test_a_direction(rng, shape, axis, masked):
    """Against the complex step of the oracle."""
    import jax

    mask = rng.random(shape[:-1]) < 0.8 if masked else None
    layer = ExemplarNormalization(axis=axis, **OPTIONS)
    layer.build(shape)
    backends.randomize(layer, rng)
    weights = {v.name: numpy(v) for v in layer.trainable_variables}
    gamma = weights.pop("gamma")
    x, dx = (images(rng, shape, "float64") for _ in range(2))
    dgamma = rng.normal(size=gamma.shape)
    run = jax.jit(lambda *at: jax.jvp(function_of(layer, mask), at, (dgamma, dx)))
    y, dy = run(gamma, x)

    step = 1j * reference.COMPLEX_STEP
    expected = reference.exemplar_normalization(
        x + step * dx,
        {**weights, "gamma": gamma + step * dgamma},
        axis=axis,
        normalizers=layer.pool,
        reduction=2,
        ratio_activation="linear",
        mask=mask,
    ).outputs
    np.testing.assert_allclose(numpy(y), expected.real, atol=1e-10)
    np.testing.assert_allclose(
        numpy(dy), expected.imag / reference.COMPLEX_STEP, atol=1e-10
    )


def test_every_transformation(rng):
    """Forward mode, reverse mode, both, and many samples at once agree."""
    import jax

    layer = ExemplarNormalization(normalizers=["instance", "batch"], **OPTIONS)
    layer.build((2, 3, 4))
    backends.randomize(layer, rng)
    x, dx = (images(rng, (2, 3, 4), "float64") for _ in range(2))
    function, gamma = function_of(layer), layer.gamma.value

    def loss(x):
        return (function(gamma, x) ** 3).sum()

    gradient_at = jax.jit(jax.grad(loss))
    gradient = numpy(gradient_at(x))
    np.testing.assert_allclose(numpy(jax.jit(jax.jacfwd(loss))(x)), gradient)
    along = jax.jit(lambda x, dx: jax.linearize(loss, x)[1](dx))
    np.testing.assert_allclose(numpy(along(x, dx)), (gradient * dx).sum())
    both = jax.jit(jax.vmap(jax.grad(loss)))(np.stack([dx, x]))
    np.testing.assert_allclose(numpy(both[1]), gradient)

    # Forward over reverse, reverse over reverse, and a difference.
    hessian = numpy(jax.jit(jax.hessian(loss))(x)).reshape(24, 24)
    twice = numpy(jax.jit(jax.jacrev(jax.grad(loss)))(x)).reshape(24, 24)
    np.testing.assert_allclose(hessian, twice, atol=1e-10)
    ends = (numpy(gradient_at(x + h * dx)) for h in (1e-5, -1e-5))
    slope = np.subtract(*ends).ravel() / 2e-5
    np.testing.assert_allclose(hessian @ dx.ravel(), slope, rtol=1e-5, atol=1e-7)
