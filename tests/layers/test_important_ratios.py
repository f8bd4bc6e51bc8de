"""The important ratios: where they start, that they learn."""

import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends
from tests.backends import images, numpy


def test_ratios_by_hand():
    """A softmax: before it learns, of the last bias alone, so the same for all."""
    layer = ExemplarNormalization()
    layer.build((None, 4, 4, 8))
    layer.ratio_output_bias.assign(np.log([0.1, 0.2, 0.7]))
    _, ratios = layer(np.ones((2, 4, 4, 8), "float32"), return_ratios=True)
    np.testing.assert_allclose(numpy(ratios), [[0.1, 0.2, 0.7]] * 2, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("head", ["correlation", "mlp"])
def test_ratios_start_at_exactly_one_kth(rng, k, head):
    pool = ("instance", "layer", "group", "batch")[:k]
    layer = ExemplarNormalization(normalizers=pool, groups=2, ratio_head=head)
    _, ratios = layer(images(rng), return_ratios=True)
    np.testing.assert_array_equal(numpy(ratios), np.float32(1) / np.float32(k))


def test_ratios_differ_after_one_step_and_all_learn_by_the_second():
    from keras_en.training import digits

    x = digits()["train"].images[:32]
    x = np.tile(x, (1, 1, 1, 4)) * np.float32([1, 2, -1, 0.5])
    rng = np.random.default_rng(0)
    layer = ExemplarNormalization()
    layer.build(x.shape)
    cotangent = rng.normal(size=x.shape).astype("float32")
    for number in (1, 2):
        step = backends.step(layer, x, cotangent, training=True)
        learned = {
            name: np.abs(gradient).max() > 0
            for name, gradient in step.gradients.items()
            if name.startswith("ratio")
        }
        if number == 1:
            for variable in layer.trainable_variables:
                change = 1e-3 * step.gradients[variable.name]
                variable.assign(numpy(variable) - change)
    assert np.ptp(step.ratios, axis=0).max() > 1e-6
    assert len(learned) == 5 and all(learned.values()), learned


def test_instance_alone_has_no_correlations(rng):
    """The pooled input is the instance mean, so its row of x_hat, and v, are 0:
    with one more normalizer, only that one's entry of v is left."""
    layer = ExemplarNormalization(normalizers=["instance", "batch"], expansion=1)
    layer.build((None, 5, 6, 8))
    backends.randomize(layer, rng)
    x = images(rng)
    _, before = layer(x, return_ratios=True)
    kernel = numpy(layer.ratio_hidden_kernel).copy()
    kernel[:3] += 100.0  # v is [ii, ib, bi, bb]
    layer.ratio_hidden_kernel.assign(kernel)
    _, after = layer(x, return_ratios=True)
    np.testing.assert_array_equal(numpy(after), numpy(before))
    kernel[3] += 1.0
    layer.ratio_hidden_kernel.assign(kernel)
    _, after = layer(x, return_ratios=True)
    assert np.abs(numpy(after) - numpy(before)).max() > 1e-3


@pytest.mark.parametrize(
    "shares, expected",
    [
        ({"batch": 0.9}, [0.05, 0.05, 0.9]),
        ({"batch": 1.0}, [1e-8, 1e-8, 1.0]),
        ({"instance": 0.2, "layer": 0.3, "batch": 0.5}, [0.2, 0.3, 0.5]),
        ({"instance": 0.25, "layer": 0.25}, [0.25, 0.25, 0.5]),
    ],
)
def test_initial_ratios(rng, shares, expected):
    layer = ExemplarNormalization(initial_ratios=shares)
    _, ratios = layer(images(rng), return_ratios=True)
    np.testing.assert_allclose(numpy(ratios), np.tile(expected, (4, 1)), rtol=1e-5)
