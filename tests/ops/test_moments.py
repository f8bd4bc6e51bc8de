"""Per-sample moments and their merges against NumPy float64 on the whole tensor."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_en.ops import moments, spatial, tracing
from tests.backends import images, numpy


def test_two_samples_by_hand():
    """Of [1, 3] and [5, 7]; the law of total variance: 5 = 1 + (2 - 4)^2."""
    x = ops.convert_to_tensor(np.reshape([1.0, 3.0, 5.0, 7.0], (2, 2, 1)))
    samples = moments.per_sample(x, 2)
    np.testing.assert_allclose(numpy(samples.mean), [[2], [6]])
    np.testing.assert_allclose(numpy(samples.variance), [[1], [1]])
    batch = moments.over_batch(*samples)
    np.testing.assert_allclose(
        [numpy(batch.mean), numpy(batch.variance)], [[[4]], [[5]]]
    )


@pytest.mark.parametrize(
    "shape, axis", [((3, 5, 8), 2), ((3, 8, 4, 5), 1), ((3, 8), 1)]
)
def test_per_sample(rng, shape, axis):
    x = images(rng, shape)
    result = moments.per_sample(ops.convert_to_tensor(x), axis)
    flat = np.moveaxis(x.astype("float64"), axis, -1).reshape(3, -1, 8)
    np.testing.assert_allclose(numpy(result.mean), flat.mean(1), atol=1e-6)
    np.testing.assert_allclose(numpy(result.variance), flat.var(1), atol=1e-6)
    np.testing.assert_array_equal(numpy(result.count), np.full((3, 1), flat.shape[1]))


@pytest.mark.parametrize("shape", [(2, 20011, 1, 4), (2, 20011, 4)], ids=str)
def test_the_mean_of_a_long_axis_does_not_drift(rng, shape):
    x = (rng.normal(size=shape) + 1e4).astype("float32")
    result = moments.per_sample(ops.convert_to_tensor(x), len(shape) - 1)
    exact = x.astype("float64").reshape(2, -1, 4).mean(1)
    # One unit in the last place of 1e4 is 1e-3.
    np.testing.assert_allclose(numpy(result.mean), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
def test_the_variance_does_not_cancel(rng, mean):
    """`E[x^2] - E[x]^2` in float32 is off by more than 1 at a mean of 1e4."""
    x = (rng.normal(size=(2, 56, 56, 16)) + mean).astype("float32")
    result = moments.per_sample(ops.convert_to_tensor(x), 3)
    exact = x.astype("float64")
    np.testing.assert_allclose(numpy(result.variance), exact.var((1, 2)), rtol=1e-5)
    batch = moments.over_batch(*result)
    np.testing.assert_allclose(
        numpy(batch.variance)[0], exact.var((0, 1, 2)), rtol=1e-4
    )
    layer = moments.over_channels(result.mean, result.variance)[1]
    np.testing.assert_allclose(numpy(layer)[:, 0], exact.var((1, 2, 3)), rtol=1e-4)


def test_a_mask_may_broadcast(rng):
    x = ops.convert_to_tensor(images(rng, (3, 4, 5, 8)))
    row = rng.random((3, 4, 1)) < 0.5
    narrow = moments.per_sample(x, 3, ops.convert_to_tensor(row))
    full = moments.per_sample(x, 3, ops.convert_to_tensor(np.tile(row, (1, 1, 5))))
    for one, other in zip(narrow, full, strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))


def test_rows_without_a_count_do_not_count(rng):
    x = images(rng, (4, 6, 8))
    mask = np.ones((4, 6), bool)
    mask[1] = False
    result = moments.per_sample(
        ops.convert_to_tensor(x), 2, ops.convert_to_tensor(mask)
    )
    np.testing.assert_array_equal(numpy(result.mean)[1], 0)
    batch = moments.over_batch(*result)
    rest = np.delete(x, 1, axis=0).astype("float64")
    np.testing.assert_allclose(numpy(batch.mean)[0], rest.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(numpy(batch.variance)[0], rest.var((0, 1)), atol=1e-6)
    assert float(numpy(batch.count).item()) == 18


def test_groups(rng):
    x = images(rng, (3, 4, 4, 8))
    result = moments.per_sample(ops.convert_to_tensor(x), 3)
    mean, variance = moments.over_channels(result.mean, result.variance, groups=4)
    split = x.astype("float64").reshape(3, 16, 4, 2)
    np.testing.assert_allclose(
        numpy(mean), np.repeat(split.mean((1, 3)), 2, axis=1), atol=1e-6
    )
    np.testing.assert_allclose(
        numpy(variance), np.repeat(split.var((1, 3)), 2, axis=1), atol=1e-6
    )


def hurtful(name):
    """Inputs `(2, 70, 5, 4)`, 14 positions a sample in the part that shifts, and a mask
    or `None`."""
    rng = np.random.default_rng(3)
    x, mask = rng.normal(size=(2, 70, 5, 4)), None
    if name == "constant part":
        x[:, :2] = 3
    elif name == "far part":  # The worst case of the bound.
        x[:, :2], x[:, 2:] = 1e3, 0
    elif name == "outlier inside":
        x[:, 0, 0] = 1e6
    elif name == "outlier outside":
        x[:, 33, 2] = 1e6
    elif name == "large mean":
        x += 1e4
    elif name == "one position":
        x = x[:, :1, :1] + 1e4
    elif name == "odd sizes":
        x = x[:, :67, :3] + 1e2
    elif name == "constant":
        x = np.full_like(x, 1e4)
    elif name == "mask of one":
        mask = np.zeros(x.shape[:-1], bool)
        mask[0, 41, 3] = mask[1, 7, 0] = True
        x += 1e4
    elif name == "mask of none":
        mask = np.zeros(x.shape[:-1], bool)
        mask[1] = True
    elif name == "mask, infinity behind it":
        mask = rng.random(x.shape[:-1]) < 0.1
        x = np.where(mask[..., None], x + 1e3, np.inf)
    return x.astype("float32"), mask


HURTFUL = ["constant part", "far part", "outlier inside", "outlier outside"]
HURTFUL += ["large mean", "one position", "odd sizes", "constant"]
HURTFUL += ["mask of one", "mask of none", "mask, infinity behind it"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", HURTFUL)
def test_one_reading_loses_no_more_than_its_bound(name, training, monkeypatch):
    """At most `n / k` = 64 roundings of float32, relative to the variance, and a few of
    a sum of this length."""
    monkeypatch.setattr(tracing, "is_fusing", lambda: True)
    x, mask = hurtful(name)
    tensors = [None if t is None else ops.convert_to_tensor(t) for t in (x, mask)]
    result = moments.per_sample(tensors[0], 3, tensors[1], training)
    weight = np.ones(x.shape[:-1]) if mask is None else mask.astype("float64")
    exact = np.where(weight[..., None] > 0, x.astype("float64"), 0)
    weight = weight[..., None] / np.maximum(weight.sum((1, 2)), 1)[:, None, None, None]
    mean = (exact * weight).sum((1, 2))
    variance = (np.square(exact - mean[:, None, None]) * weight).sum((1, 2))
    rounding = np.finfo("float32").eps
    # The float64 mean is rounded, too.
    allowed = 64 * 4 * rounding * variance + 1e-16
    assert (np.abs(numpy(result.variance) - variance) <= allowed).all()
    allowed = 4 * rounding * np.abs(mean) + 64 * rounding * np.sqrt(variance)
    assert (np.abs(numpy(result.mean) - mean) <= allowed).all()


def test_the_part_is_read_as_it_is(monkeypatch):
    """A bfloat16 input is sliced before it is cast."""
    monkeypatch.setattr(tracing, "is_fusing", lambda: True)
    x = ops.cast(np.ones((2, 5, 3, 4)), "bfloat16")
    values, weight = spatial.Spatial.of(ops.cast(x, "float32"), 3).part(x)
    assert keras.backend.standardize_dtype(values.dtype) == "bfloat16"
    assert tuple(values.shape) == (2, 1, 3, 4) and weight == 1 / 3


@pytest.mark.parametrize("rows", [127, 130])
def test_no_part_of_a_long_axis_with_a_mask(rows, monkeypatch):
    """127 rows have no parts of two, as 130 have of three: more than 64 of two."""
    monkeypatch.setattr(tracing, "is_fusing", lambda: True)
    x = ops.ones((2, rows, 3))
    layout = spatial.Spatial.of(x, 2, ops.ones((2, rows), "bool"))
    assert layout.part(x) is None
