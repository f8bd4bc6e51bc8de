"""Sums and means over positions, and `x * a + b`."""

import numpy as np
import pytest
from keras import ops

from keras_en.ops import spatial
from tests.backends import images, numpy


def test_by_hand():
    """One sample of two positions and two channels; the mask leaves the second."""
    x = ops.convert_to_tensor(np.array([[[1.0, 2.0], [3.0, 6.0]]], "float32"))
    layout = spatial.Spatial.of(x, axis=2)
    assert layout.count == 2
    np.testing.assert_array_equal(numpy(layout.sum(ops.square, x)), [[10, 40]])
    np.testing.assert_array_equal(numpy(layout.exact_mean(x)), [[2, 4]])
    mask = ops.convert_to_tensor(np.array([[False, True]]))
    masked = spatial.Spatial.of(x, axis=2, mask=mask)
    np.testing.assert_array_equal(numpy(masked.count), [[1]])
    np.testing.assert_array_equal(numpy(masked.sum(ops.square, x)), [[9, 36]])


@pytest.mark.parametrize(
    "shape, axis", [((3, 5), 1), ((3, 5, 4), 1), ((3, 4, 2, 5), 3)]
)
def test_scale_and_shift(rng, shape, axis):
    x, a, b = images(rng, shape), images(rng, (3, 5)), images(rng, (3, 5))
    y = spatial.scale_and_shift(*map(ops.convert_to_tensor, (x, a, b)), axis)
    moved = np.moveaxis(x, axis, -1).reshape(3, -1, 5)
    expected = np.moveaxis(numpy(y), axis, -1).reshape(3, -1, 5)
    np.testing.assert_allclose(expected, moved * a[:, None] + b[:, None], atol=1e-6)
