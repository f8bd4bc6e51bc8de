"""Every step against what it says, on images whose pixels tell where they come from."""

import numpy as np
import pytest
from PIL import Image

from keras_en.training.data import transformations as steps
from keras_en.training.data.transformations import Batch
from tests.training.data.pictures import picture


def numbered(count=1, height=4, width=5, channels=3):
    """Pixels that are all different, and masks with their first channel."""
    pixels = np.arange(height * width * channels).reshape(height, width, channels)
    images = np.stack([pixels + i for i in range(count)]).astype("uint8")
    return images, images[..., 0].copy()


def test_pad_crop_by_hand():
    """One row down and two columns to the left."""
    images, masks = numbered()
    step = steps.PadCrop(2)
    # The window begins at -1 of rows and at 2 of columns: 1 and 4 of 0 to 4.
    result = step.apply(Batch(images, masks, void=255), np.array([[1.5 / 5, 4.5 / 5]]))
    expected = np.zeros_like(images)
    expected[:, 1:, :3] = images[:, :3, 2:]
    np.testing.assert_array_equal(result.images, expected)
    outside = np.full_like(masks, 255)
    outside[:, 1:, :3] = masks[:, :3, 2:]
    np.testing.assert_array_equal(result.masks, outside)


def test_pad_crop_draws_every_offset_alike(rng):
    images = np.zeros((5000, 3, 3, 1), "uint8")
    images[:, 1, 1] = 1
    result = steps.PadCrop(1).apply(Batch(images), rng.random((5000, 2))).images
    counts = result.sum((0, 3))
    assert counts.sum() == 5000 and abs(counts - 5000 / 9).max() < 5 * np.sqrt(5000 / 9)


def test_flip():
    images, masks = numbered(2)
    result = steps.Flip().apply(Batch(images, masks), np.array([[0.2], [0.7]]))
    np.testing.assert_array_equal(result.images[0], images[0, :, ::-1])
    np.testing.assert_array_equal(result.masks[0], masks[0, :, ::-1])
    np.testing.assert_array_equal(result.images[1], images[1])
    assert images[0, 0, 0, 0] == 0, "the original is as it was"


@pytest.mark.parametrize(
    "size, shape, expected",
    [(6, (12, 16), (6, 8)), (6, (16, 12), (8, 6)), ((5, 7), (13, 17), (5, 7))],
)
def test_resize_as_pillow(rng, size, shape, expected):
    image = picture(rng, *shape)
    mask = rng.integers(0, 3, shape, dtype="uint8")
    step = steps.Resize(size)
    assert step.shape(*shape) == expected
    result = step.apply(Batch(image[None], mask[None]), np.zeros((1, 0)))
    pillow = Image.fromarray(image).resize(expected[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(result.images[0], np.asarray(pillow))
    rows = ((np.arange(expected[0]) + 0.5) * shape[0] / expected[0]).astype(int)
    columns = ((np.arange(expected[1]) + 0.5) * shape[1] / expected[1]).astype(int)
    np.testing.assert_array_equal(result.masks[0], mask[rows][:, columns])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_resize_of_any_number_of_channels(rng, channels):
    images = rng.integers(0, 256, (2, 6, 6, channels), dtype="uint8")
    result = steps.Resize((3, 3)).apply(Batch(images), np.zeros((2, 0))).images
    for channel in range(channels):
        single = Image.fromarray(images[1, ..., channel])
        expected = np.asarray(single.resize((3, 3), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(result[1, ..., channel], expected)


def test_center_crop_and_its_border():
    images, masks = numbered()
    step = steps.CenterCrop(3)
    result = step.apply(Batch(images, masks, void=255), np.zeros((1, 0)))
    np.testing.assert_array_equal(result.images, images[:, :3, 1:4])
    result = steps.CenterCrop(8).apply(Batch(images, masks, void=255), np.zeros((1, 0)))
    assert result.images.shape == (1, 8, 8, 3)
    np.testing.assert_array_equal(result.images[:, 2:6, 2:7], images)
    np.testing.assert_array_equal(result.masks[:, 2:6, 2:7], masks)
    assert (result.masks == 255).sum() == 64 - 20 and not result.images[:, :2].any()


def test_parts_of_random_resized_crop(rng):
    step = steps.RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3), 8)
    sizes = np.tile([375, 500], (4000, 1))
    boxes = step.boxes(sizes, rng.random((4000, step.draws)))
    top, left, height, width = boxes.T
    assert (boxes >= 0).all() and (top + height <= 375).all()
    assert (left + width <= 500).all()
    area, ratio = height * width / (375 * 500), width / height
    assert area.min() > 0.078 and ratio.min() > 0.7 and ratio.max() < 1.4
    # Of uniform areas those that fit: the large ones are rarer, the mean below 0.54.
    assert 0.4 < area.mean() < 0.54 and area.max() > 0.9


@pytest.mark.parametrize("size, part", [((10, 100), (10, 13)), ((100, 10), (13, 10))])
def test_where_no_part_fits_it_is_the_middle(rng, size, part):
    step = steps.RandomResizedCrop((0.9, 1.0), (3 / 4, 4 / 3), 8)
    (box,) = step.boxes(np.array([size]), rng.random((1, step.draws)))
    np.testing.assert_array_equal(box[2:], part)
    np.testing.assert_array_equal(box[:2], (np.array(size) - part) // 2)


def test_random_resized_crop_is_its_part_resized(rng):
    step = steps.RandomResizedCrop((0.3, 0.6), (0.5, 2.0), 9)
    images = np.stack([picture(rng, 20, 24) for _ in range(3)])
    uniform = rng.random((3, step.draws))
    result = step.apply(Batch(images), uniform).images
    boxes = step.boxes(np.tile([20, 24], (3, 1)), uniform).tolist()
    for image, (y, x, h, w), actual in zip(images, boxes, result, strict=True):
        part = Image.fromarray(image[y : y + h, x : x + w])
        np.testing.assert_array_equal(actual, part.resize((9, 9), 2))


def test_random_scale_crop_goes_along_with_the_mask(rng):
    """Where the image is a function of the label, it is one afterwards, too."""
    masks = np.zeros((6, 20, 30), "uint8")
    masks[:, 5:15, 10:25] = 1
    images = np.repeat(masks[..., None] * 200, 3, 3)
    step = steps.RandomScaleCrop((10, 20, 40), 45, 24)
    batch = Batch(images, masks, fill=np.array([7, 8, 9]), void=255)
    result = step.apply(batch, rng.random((6, 3)))
    assert result.images.shape == (6, 24, 24, 3)
    outside = result.masks == 255
    assert outside.any() and not outside.all()
    np.testing.assert_array_equal(
        result.images[outside], np.tile([7, 8, 9], (outside.sum(), 1))
    )
    values = result.images[~outside][:, 0]
    # Pixels that are not of both sides of an edge.
    sure = (values < 20) | (values > 180)
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(values[sure] > 100, result.masks[~outside][sure] == 1)


@pytest.mark.parametrize("choice, side", [(0.1, 10), (0.5, 20), (0.9, 30)])
def test_random_scale_crop_scales(choice, side):
    """At the longest side of 45 a short one of 40 becomes 30."""
    masks = np.zeros((1, 20, 30), "uint8")
    batch = Batch(np.zeros((1, 20, 30, 3), "uint8"), masks, void=255)
    step = steps.RandomScaleCrop((10, 20, 40), 45, 64)
    result = step.apply(batch, np.array([[choice, 0, 0]]))
    assert (result.masks == 0).any((0, 2)).sum() == side
    assert (result.masks == 0).any((0, 1)).sum() == side * 3 / 2


def test_color_jitter_by_hand():
    """Brightness 1.5, contrast 0.5 and saturation 0.5, in this order."""
    image = np.array([[[100, 50, 20], [40, 200, 10]]], "uint8")[None]
    uniform = np.array([[1.0, 0.0, 0.0, 0.1, 0.2, 0.3]])
    result = steps.ColorJitter(0.5).apply(Batch(image), uniform).images
    weights = np.array([0.299, 0.587, 0.114])
    x = np.clip(image * 1.5, 0, 255)
    x = 0.5 * x + 0.5 * (x @ weights).mean()
    x = 0.5 * x + 0.5 * (x @ weights)[..., None]
    np.testing.assert_allclose(result, x, rtol=1e-6)


def test_lighting_adds_a_colour_of_the_right_spread(rng):
    images = np.zeros((4000, 2, 2, 3), "uint8")
    result = steps.Lighting(0.1).apply(Batch(images), rng.random((4000, 6))).images
    assert (result == result[:, :1, :1]).all(), "one colour an image"
    shifts = result[:, 0, 0] / 255
    values, vectors = np.linalg.eigh(np.cov(shifts.T))
    np.testing.assert_allclose(np.sqrt(values), [0.00045, 0.00188, 0.02175], rtol=0.05)
    assert abs(vectors[:, 2] @ [-0.5675, -0.5808, -0.5836]) > 0.999
