import numpy as np
import pytest
from keras import ops

from keras_en.ops import spatial
from tests.backends import images, numpy


@pytest.mark.parametrize(
    "shape, axis", [((3, 5), 1), ((3, 5, 4), 1), ((3, 4, 2, 5), 3)]
)
def test_scale_and_shift(rng, shape, axis):
    x, a, b = images(rng, shape), images(rng, (3, 5)), images(rng, (3, 5))
    y = spatial.scale_and_shift(*map(ops.convert_to_tensor, (x, a, b)), axis)
    moved = np.moveaxis(x, axis, -1).reshape(3, -1, 5)
    expected = np.moveaxis(numpy(y), axis, -1).reshape(3, -1, 5)
    np.testing.assert_allclose(expected, moved * a[:, None] + b[:, None], atol=1e-6)
