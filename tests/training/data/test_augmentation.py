"""The list of steps of a recipe: what it becomes, and what is refused."""

import numpy as np
import pytest

from keras_en.training.data import Transform
from keras_en.training.data.transformations import Lighting, PadCrop, RandomResizedCrop


def test_without_steps_images_are_scaled_only():
    images, masks = Transform.of([])(
        np.array([0, 51, 255], "uint8").reshape(1, 1, 3, 1)
    )
    assert images.dtype == "float32" and masks is None
    np.testing.assert_allclose(images.ravel(), [0, 0.2, 1], rtol=1e-6)


def test_normalize_by_channel_and_maximum():
    transform = Transform.of([{"normalize": {"mean": [0.5, 0, 1], "std": [0.5, 1, 2]}}])
    images, _ = transform(np.full((1, 1, 1, 3), 8, "uint8"), maximum=16)
    np.testing.assert_allclose(images.ravel(), [0, 0.5, -0.25])


def test_a_whole_recipe_and_its_shape():
    transform = Transform.of(
        [
            {"random_resized_crop": {"scale": [0.2, 1]}},
            "flip",
            {"color_jitter": 0.4},
            {"lighting": 0.1},
            {"normalize": {"mean": [0.4, 0.4, 0.4]}},
        ],
        image_size=24,
    )
    assert transform.steps[0] == RandomResizedCrop((0.2, 1.0), (3 / 4, 4 / 3), 24)
    assert transform.steps[-1] == Lighting(0.1)
    assert transform.draws == 22 + 1 + 6 + 6
    assert transform.output_shape((None, None, 3)) == (24, 24, 3)
    images, _ = transform(np.zeros((5, 30, 40, 3), "uint8"))
    assert images.shape == (5, 24, 24, 3) and images.dtype == "float32"


def test_shift_is_pad_crop():
    assert Transform.of([{"shift": 1}]).steps == (PadCrop(1),)


@pytest.mark.parametrize(
    "steps, shape",
    [
        ([{"resize": 256}, {"center_crop": 224}], (224, 224, 3)),
        ([{"resize": 256}], (None, None, 3)),
        ([{"resize": [32, 48]}, {"pad_crop": 4}], (32, 48, 3)),
        ([{"random_scale_crop": {"short": 300, "crop": 480}}], (480, 480, 3)),
        (["flip"], (None, None, 3)),
    ],
)
def test_output_shape(steps, shape):
    assert Transform.of(steps).output_shape((None, None, 3)) == shape


def test_images_are_brought_to_a_size_unless_a_step_does():
    plain = Transform.of(["flip"]).sized(8)
    assert plain.output_shape((None, None, 3)) == (8, 8, 3)
    crop = Transform.of([{"center_crop": 6}])
    assert crop.sized(8) is not plain and crop.sized(8).steps == crop.steps
    assert Transform.of(["random_resized_crop"]).sized(8).steps[0].size == 8
    assert Transform.of(["flip"]).sized(None).steps == Transform.of(["flip"]).steps


def test_outside_of_a_scaled_image_is_the_mean():
    transform = Transform.of(
        [
            {"random_scale_crop": {"short": 4, "crop": 8}},
            {"normalize": {"mean": [0.2, 0.4, 0.6]}},
        ],
        void=255,
    )
    images, masks = transform(
        np.zeros((1, 4, 4, 3), "uint8"), np.zeros((1, 4, 4), "uint8")
    )
    assert masks.dtype == "int32" and (masks == 255).sum() == 48
    assert abs(images[masks == 255]).max() < 1e-6


@pytest.mark.parametrize(
    "steps, words",
    [
        ([{"crop": 4}], ["pad_crop", "'crop': 4"]),
        (["flipp"], ["do you mean flip?", "'flipp'"]),
        ([{"flip": 1, "shift": 1}], ["a mapping of one", "Received"]),
        ("flip", ["`steps`", "a list", "'flip'"]),
        ([{"pad_crop": 0}], ["`pad_crop`", "positive integer", "0"]),
        ([{"resize": 2**14 + 1}], ["`resize`", "at most 16384", "16385"]),
        (["pad_crop"], ["`pad_crop`", "positive integer", "None"]),
        ([{"flip": 0.5}], ["`flip`", "without a value"]),
        ([{"resize": [1, 2, 3]}], ["`resize`", "height and width", "[1, 2, 3]"]),
        ([{"center_crop": "a"}], ["`center_crop`", "'a'"]),
        (["center_crop"], ["`center_crop`", "image_size"]),
        ([{"color_jitter": 2}], ["`color_jitter`", "from 0 to 1", "2"]),
        ([{"lighting": -1}], ["`lighting`", "at least 0"]),
        ([{"random_resized_crop": {"size": 2}}], ["scale, ratio", "'size'"]),
        ([{"random_resized_crop": {"scale": [1, 0.1]}}], ["scale", "smaller first"]),
        ([{"random_resized_crop": {"scale": [0.1, 2]}}], ["scale", "up to 1"]),
        ([{"random_scale_crop": {"crop": 4}}], ["short", "positive integer"]),
        ([{"random_scale_crop": {"short": [4]}}], ["crop", "image_size"]),
        ([{"random_scale_crop": {"short": [4], "crop": 4, "longest": 0}}], ["longest"]),
        ([{"normalize": {"std": 0}}], ["normalize: std", "above 0"]),
        ([{"normalize": {"mean": ["a"]}}], ["normalize: mean", "number"]),
        ([{"normalize": 1}], ["`normalize`", "mean, std"]),
        ([{"normalize": {}}, "flip"], ["`normalize`", "the last", "flip"]),
        ([{"color_jitter": 0.1}, {"resize": 2}], ["`resize`", "before color_jitter"]),
    ],
)
def test_wrong_steps(steps, words):
    with pytest.raises(ValueError) as error:
        Transform.of(steps)
    assert "Received: " in str(error.value) and "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_what_does_not_fit_the_images():
    Transform.of([{"pad_crop": 1}]).check_fits(1, False)
    Transform.of([{"pad_crop": 1}], void=11).check_fits(3, True)
    with pytest.raises(ValueError, match="`pad_crop` must be used with a label `void`"):
        Transform.of([{"pad_crop": 1}]).check_fits(3, True)
    with pytest.raises(ValueError, match="`lighting` must be left out"):
        Transform.of([{"lighting": 0.1}]).check_fits(1, False)
    with pytest.raises(ValueError, match="mean` must be a number or 1 of them"):
        Transform.of([{"normalize": {"mean": [0.1, 0.2, 0.3]}}]).check_fits(1, False)
