"""Recipes as networks that learn, on generated images."""

import math

import keras
import numpy as np
import pytest

from keras_en.layers import ExemplarNormalization
from keras_en.models import CifarResNet
from keras_en.models.resnet import BLOCKS
from keras_en.training import build, optimizers
from keras_en.training.build import Facts
from keras_en.training.data import ArraySplit, Data, Transform
from keras_en.training.radius import RadiusSchedule
from keras_en.training.recipes.recipe import load
from tests.backends import numpy
from tests.models.networks import outline


def normalizations(model):
    return [v for v in model.trainable_variables if v.name == "gamma"]


# XLA compiles for a minute what is run once.
JIT = keras.backend.backend() == "jax"


def split(rng, shape, count=4, classes=3, masks=False):
    images = rng.integers(0, 256, (count, *shape), "uint8")
    if masks:
        return ArraySplit(
            images, None, rng.integers(0, 4, (count, *shape[:2]), "uint8")
        )
    return ArraySplit(images, rng.integers(0, classes, count).astype("int32"))


def stepped(recipe, data):
    """A model and its losses in a step of training, on a batch of the data."""
    keras.utils.set_random_seed(0)
    part = recipe.data
    model = build.build(recipe, data, steps_per_epoch=4, jit_compile=JIT)
    transform = Transform.of(part.train, part.image_size, data.void)
    batches = data.splits["train"].batches(2, transform, seed=0)
    ((x, y), *_) = build.both_targets(model, batches)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert all(np.isfinite(float(numpy(value))) for value in logs.values())
    return model, logs


@pytest.mark.slow
def test_a_step_of_the_smallest(rng):
    """Labels of ten classes, weights that move, and what is printed."""
    recipe = load("small_tinyimagenet", ["data.image_size=16", "data.evaluate=[]"])
    data = Data(
        {"train": split(rng, (20, 24, 3))}, tuple("abcdefg"), "classification", None, []
    )
    model, logs = stepped(recipe, data)
    assert set(logs) == {"loss", "accuracy", "top5"}
    assert model.input_shape == (None, 16, 16, 3)
    assert type(model.optimizer) is optimizers.SGD
    assert int(numpy(model.optimizer.iterations)) == 1


@pytest.mark.slow
def test_a_step_of_segmentation(rng, monkeypatch):
    """The loss is that of both outputs, the second times 0.4; void counts nowhere."""
    monkeypatch.setitem(BLOCKS, 50, (1, 1, 1, 1))
    crop = "{random_scale_crop: {short: [40], longest: 64, crop: 32}}"
    recipe = load("small_camvid", [f"data.train=[{crop}]", "norm.name=bn"])
    train = split(rng, (36, 48, 3), masks=True)
    data = Data({"train": train}, ("road", "sky", "car"), "segmentation", 3, [])
    model, logs = stepped(recipe, data)
    assert logs["loss"] == pytest.approx(
        logs["main_loss"] + 0.4 * logs["auxiliary_loss"], rel=1e-4
    )
    assert "main_mean_iou" in logs
    alone = build.without_auxiliary(model)
    images = rng.normal(size=(1, 32, 40, 3)).astype("float32")
    expected = numpy(model(images)["main"])
    np.testing.assert_array_equal(numpy(alone(images)), expected)
    assert expected.shape == (1, 32, 40, 3)


def test_digits_is_a_training_of_keras_own(rng):
    """Keras's optimizer and schedule; statistics that follow 90 steps."""
    recipe, shape = load("digits"), (8, 8, 1)
    train = ArraySplit(np.zeros((130, *shape), "uint8"), np.zeros(130, "int32"))
    data = Data({"train": train}, tuple("0123456789"), "classification", None, [])
    ours = build.build(recipe, data, steps_per_epoch=3)
    assert (recipe.schedule.duration, recipe.data.batch_size) == (30, 64)
    assert recipe.data.train == ({"shift": 1},)
    theirs = keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 90),
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
    )
    configs = [optimizer.get_config() for optimizer in (ours.optimizer, theirs)]
    for config in configs:
        del config["name"]  # numbered
    assert configs[0] == configs[1] and type(ours.optimizer) is type(theirs)
    kwargs = {"momentum": 1e-3 ** (1 / 45)}
    network = CifarResNet(8, input_shape=shape, classes=10, norm_kwargs=kwargs)
    assert ours.get_config() == network.get_config()


def test_statistics_that_fit_the_run():
    """After half of the steps the start weighs a thousandth, and at most 0.99."""
    recipe = load("cifar10_resnet20", ["statistics.momentum=auto"])
    momentum = build.norm_arguments(recipe, 60)["momentum"]
    assert momentum**30 == pytest.approx(1e-3)
    assert build.norm_arguments(recipe, 100_000)["momentum"] == 0.99


@pytest.mark.parametrize("norm", ["en", "sn", "ssn", "bn", "sync_bn", "gn", "in", "ln"])
def test_every_norm_takes_what_it_knows(norm):
    own = ["norm.exemplar.expansion=7", "norm.switchable.initial_ratios={batch: 0.9}"]
    small = ["network.arguments.depth=8", f"norm.name={norm}"]
    recipe = load("cifar10_resnet20", [*own, *small])
    model = outline(
        build.network, recipe=recipe, data=Facts(10, (32, 32, 3)), steps=100
    )
    layer = model.get_layer("stem_norm")
    assert layer.epsilon == 1e-5
    assert getattr(layer, "momentum", 0.9) == 0.9
    assert getattr(layer, "expansion", 7) == 7
    shares = {"batch": 0.9} if norm in ("sn", "ssn") else None
    assert getattr(layer, "initial_ratios", None) == shares
    callbacks = build.callbacks(recipe, 10)
    assert [type(each) for each in callbacks] == [RadiusSchedule] * (norm == "ssn")
    if callbacks:
        assert callbacks[0].steps == 1650
        assert callbacks[0].end == pytest.approx((2 / 3) ** 0.5)


@pytest.mark.parametrize("initializer", ["null", "he_fan_out"])
def test_arms_with_one_seed_begin_with_the_same_weights(initializer):
    """All but those of the normalizations: what is compared is paired."""

    def first_weights(*overrides):
        part = ["network.arguments.depth=8", f"network.initializer={initializer}"]
        recipe = load("cifar10_resnet20", [*part, *overrides])
        keras.utils.set_random_seed(3)
        model = build.network(recipe, Facts(10, (8, 8, 3)), 100)
        kinds = (keras.layers.Conv2D, keras.layers.Dense)
        layers = [layer for layer in model.layers if isinstance(layer, kinds)]
        return [numpy(layer.kernel) for layer in layers]

    expected = first_weights("norm.name=bn")
    assert len(expected) == 10
    arms = [[f"norm.name={norm}"] for norm in ("en", "sn", "ssn", "gn", "in", "ln")]
    # Tables 7 and 9.
    arms += [["norm.exemplar.expansion=10"], ["norm.exemplar.ratio_head=mlp"]]
    arms += [["norm.exemplar={reduction: null}"], ["norm.exemplar.share_affine=true"]]
    for arm in arms:
        for ours, theirs in zip(first_weights(*arm), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=str(arm))


def test_dropout_and_balance():
    recipe = load("webvision_inception")
    data = Facts(3, (32, 32, 3), labels=np.array([0, 0, 0, 1, 2, 2]))
    model = outline(build.network, recipe=recipe, data=data, steps=100)
    build.compiled(model, recipe, data, 100)
    before, last = model.layers[-2:]
    assert (before.rate, last.name, last.units) == (0.4, "predictions", 3)
    assert len(normalizations(model)) == 69
    layers = [x for x in model.layers if isinstance(x, ExemplarNormalization)]
    assert {layer.reduction for layer in layers} == {16}
    assert model.loss.class_weights == pytest.approx((2 / 3, 2, 1))


def test_convolutions_begin_as_in_the_sources():
    """A deviation of `sqrt(2 / (k^2 outputs))`, and no weight cut off at two."""
    recipe = load("small_tinyimagenet")
    model = build.network(recipe, Facts(20, (32, 32, 3)), 100)
    kernel = numpy(model.get_layer("stage3_block1_2_conv").kernel)
    expected = math.sqrt(2 / (9 * 64))
    assert kernel.std() == pytest.approx(expected, rel=0.02)
    assert np.abs(kernel).max() > 2.5 * expected
    other = numpy(model.get_layer("stage2_block1_2_conv").kernel)
    assert abs(np.corrcoef(kernel[:, :, :32, :32].ravel(), other.ravel())[0, 1]) < 0.1


def test_what_does_not_fit(rng):
    classification = Facts(10, (32, 32, 3))
    with pytest.raises(ValueError, match="a network for classification, as the data"):
        build.build(load("small_camvid"), classification, 10)
    recipe = load("cifar10_resnet20", ["loss.balanced=true"])
    with pytest.raises(ValueError, match="`loss.balanced` must be false for data"):
        build.build(recipe, classification, 10)
    train = split(rng, (20, 24, 3))
    data = Data({"train": train}, ("a", "b", "c"), "classification", None, [])
    with pytest.raises(ValueError, match=r"to images of \(160, 160\), .*\(224, 224\)"):
        build.build(load("imagenet_resnet50", ["data.image_size=160"]), data, 10)
    segmentation = Facts(3, (None, None, 3), "segmentation", 255)
    recipe = load("small_camvid", ["loss.label_smoothing=0.1"])
    with pytest.raises(ValueError, match="`loss.label_smoothing` must be 0 for data"):
        build.build(recipe, segmentation, 10)
