import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from keras_en.layers import StaticNormalization
from tests.backends import images, numpy, randomize


def test_one_normalizer_by_hand():
    """Mean 2, variance 1, epsilon 3: half of the deviation."""
    layer = StaticNormalization(epsilon=3.0, normalizers=("layer",))
    np.testing.assert_allclose(numpy(layer(np.array([[1.0, 3.0]]))), [[-0.5, 0.5]])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("pool", [None, ("instance", "layer", "group", "batch")])
def test_it_is_eq_3_with_equal_ratios_for_all(rng, training, pool):
    """Outputs, gradients of the input, moving statistics."""
    x, arguments = images(rng, (4, 5, 6, 8)), dict(normalizers=pool, groups=4)
    old, new = ExemplarNormalization(**arguments), StaticNormalization(**arguments)
    old.build(x.shape)
    new.build(x.shape)
    randomize(old, rng)
    old.ratio_output_kernel.assign(0 * old.ratio_output_kernel)
    _, ratios = old(x, return_ratios=True)
    new.gamma.assign(numpy(old.gamma) * numpy(ratios)[0][:, None])
    new.beta.assign(numpy(old.beta).sum(0))
    for name in ("moving_mean", "moving_variance"):
        getattr(new, name).assign(getattr(old, name))
    expected = numpy(old(x, training=training))
    np.testing.assert_allclose(numpy(new(x, training=training)), expected, atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        pair = (numpy(getattr(layer, name)) for layer in (new, old))
        np.testing.assert_allclose(*pair, rtol=1e-6)


def test_shares_and_configuration(rng):
    layer = StaticNormalization(initial_ratios={"batch": 0.5}, epsilon=1e-2)
    layer.build((None, 4, 4, 3))
    np.testing.assert_allclose(numpy(layer.gamma)[:, 0], [0.25, 0.25, 0.5])
    again = StaticNormalization.from_config(layer.get_config())
    assert again.epsilon == 1e-2 and again.initial_ratios == {"batch": 0.5}
    assert layer.count_params() == 3 * 3 + 3 + 2 * 3


def test_it_learns(rng):
    x = images(rng, (8, 4, 4, 3))
    layer = StaticNormalization()
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    losses = model.fit(x, 0.5 * x + 1, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
