"""What all builders share: the interface of `keras.applications`."""

import doctest
import inspect
import re

import keras
import numpy as np
import pytest

from keras_en import models
from keras_en.models import CifarResNet, CifarResNet20
from keras_en.models.norms import NAMES
from keras_en.ops.ratios import resolve_reduction
from tests.backends import BACKEND, images, numpy
from tests.models.networks import NETWORKS, names, norms, outline

SHAPE = (33, 47, 3)  # odd, and divided by no stride
IMAGES = images(np.random.default_rng(0), (2, *SHAPE))
SHARED = {
    "include_top": True,
    "weights": None,
    "input_tensor": None,
    "input_shape": None,
    "pooling": None,
    "classifier_activation": "softmax",
    "name": None,
    "norm": "en",
    "norm_kwargs": None,
}


def test_a_small_network():
    """9 normalized convolutions: a stem, 3 blocks of 2, and 2 shortcuts."""
    model = CifarResNet(8, input_shape=(8, 12, 1), classes=4, norm="bn")
    assert model.name == "cifar_resnet8_bn"
    assert model.input_shape == (None, 8, 12, 1)
    assert model.output_shape == (None, 4)
    assert len(norms(model)) == 9
    kernel = model.get_layer("predictions").kernel
    assert kernel.shape == (64, 4)


# What stands before and behind the shared arguments, and the number of classes.
OWN = {
    "AAResNet50": ("", ", zero_init_last_gamma=False", 1000),
    "CifarPreactivationResNet": ("depth, ", "", 10),
    "CifarResNet": ("depth, ", ", zero_init_last_gamma=False", 10),
    "CifarResNet20": ("", ", zero_init_last_gamma=False", 10),
    "CifarResNet56": ("", ", zero_init_last_gamma=False", 10),
    "CifarResNet110": ("", ", zero_init_last_gamma=False", 10),
    "DeepLabResNet50": (
        "",
        ", aspp=False, zero_init_last_gamma=False, head='plain', auxiliary=False",
        19,
    ),
    "InceptionV2": ("", "", 1000),
    "ResNet50": ("", ", zero_init_last_gamma=False", 1000),
    "ResNet101": ("", ", zero_init_last_gamma=False", 1000),
    "ResNet152": ("", ", zero_init_last_gamma=False", 1000),
    "SEResNet50": ("", ", zero_init_last_gamma=False", 1000),
    "ShuffleNetV2": ("", ", width=1.0", 1000),
}


@pytest.mark.parametrize("name", OWN)
def test_arguments_in_their_order(name):
    """Positions and defaults are those of `keras.applications`."""
    signature = inspect.signature(getattr(models, name))
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    before, behind, classes = OWN[name]
    assert str(inspect.Signature(parameters)) == (
        f"({before}include_top=True, weights=None, input_tensor=None, "
        f"input_shape=None, pooling=None, classes={classes}, "
        "classifier_activation='softmax', name=None, norm='en', norm_kwargs=None"
        f"{behind})"
    )
    assert signature.return_annotation is keras.Model


def test_every_builder_is_in_the_table():
    assert {*OWN, "summary_table"} == set(models.__all__)


def test_arguments_by_position():
    model = CifarResNet(8, False, None, None, (8, 8, 3), "avg", 10, None, "m", "bn")
    assert model.name == "m" and model.output_shape == (None, 64)
    with pytest.raises(TypeError, match="unexpected keyword argument 'clases'"):
        CifarResNet(8, clases=3)
    with pytest.raises(TypeError, match="'depth'"):
        CifarResNet()


@pytest.mark.parametrize("name", ["CifarResNet", "ResNet50"])
def test_the_examples_of_the_docstrings(name):
    builder = getattr(models, name)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    (example,) = finder.find(builder, name, globs={name: builder})
    assert runner.run(example) == (0, len(example.examples))
    assert example.examples


@pytest.fixture(scope="module")
def model(builder):
    return builder(input_shape=SHAPE, norm_kwargs={"momentum": 0.9})


@pytest.fixture(scope="module")
def outputs(model):
    return numpy(model(IMAGES))


@pytest.fixture(scope="module")
def channels_first(builder, name):
    """Built for images of any size, where the network takes them."""
    shape = (3, *SHAPE[:2]) if name == "aa_resnet50" else (3, None, None)
    keras.config.set_image_data_format("channels_first")
    try:
        return builder(input_shape=shape, name="other")
    finally:
        keras.config.set_image_data_format("channels_last")


def test_signature_and_docstring(builder):
    parameters = inspect.signature(builder).parameters
    assert SHARED.items() <= {n: p.default for n, p in parameters.items()}.items()
    documented = inspect.getdoc(getattr(builder, "func", builder))
    for parameter in [*SHARED, "classes", *parameters]:
        assert f"\n    {parameter}: " in documented
    assert documented.count("Args:") == documented.count("Raises:") == 1


@pytest.mark.thorough(4)
def test_classes_and_probabilities(outputs, name):
    classes = {"cifar_resnet8": 10, "deeplab_resnet50": 19}.get(name, 1000)
    assert outputs.shape[-1] == classes
    np.testing.assert_allclose(outputs.sum(-1), 1, rtol=1e-5)


@pytest.mark.thorough(4)
def test_a_keras_file(model, outputs, tmp_path):
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.name == model.name and names(again) == names(model)
    np.testing.assert_array_equal(numpy(again(IMAGES)), outputs)


@pytest.mark.thorough(4)
def test_channels_first(model, outputs, channels_first):
    channels_first.set_weights(model.get_weights())
    others = numpy(channels_first(np.moveaxis(IMAGES, -1, 1)))
    others = np.moveaxis(others, 1, -1)
    np.testing.assert_allclose(others, outputs, rtol=1e-4, atol=1e-4)


def test_names(model, channels_first):
    """They hold no number that depends on what was built before."""
    assert names(channels_first) == names(model)
    for layer in model.layers:
        by_keras = re.sub(r"_\d+$", "", layer.name).replace("_", "")
        assert by_keras != type(layer).__name__.lower(), layer.name
    assert channels_first.name == "other"


def test_norm_kwargs_reach_every_layer(model):
    assert all(layer.momentum == 0.9 for layer in norms(model))


def test_reductions(model, name):
    """Sec. 4.1 and 4.2; CifarResNet has the defaults of 16, 32 and 64 channels."""
    reductions = {
        resolve_reduction(layer.reduction, layer.gamma.shape[-1])
        for layer in norms(model)
    }
    special = {
        "cifar_resnet8": {8, 16, 32},
        "shufflenet_v2_x0.5": {8},
        "inception_v2": {16},
    }
    assert reductions == special.get(name, {32})


@pytest.mark.thorough(4)
@pytest.mark.parametrize(
    "kind", ["cifar_resnet8", "shufflenet_v2_x0.5", "aa_resnet50", "deeplab_resnet50"]
)
def test_mixed_precision(kind, dtype_policy):
    """The others have no layers that these do not have, but those of Keras."""
    dtype_policy("mixed_float16")
    model = NETWORKS[kind](input_shape=SHAPE)
    y = numpy(model(IMAGES))
    assert {layer.compute_dtype for layer in norms(model)} == {"float16"}
    assert y.dtype == "float32" and np.isfinite(y).all()


def test_float64_stays(rng, dtype_policy):
    dtype_policy("float64")
    model = CifarResNet(8, input_shape=(8, 8, 3))
    assert numpy(model(images(rng, (2, 8, 8, 3), "float64"))).dtype == "float64"


@pytest.mark.thorough(4)
@pytest.mark.parametrize("norm", NAMES)
def test_a_training_step(rng, norm):
    if BACKEND == "torch" and norm == "sync_bn":
        pytest.skip("synchronized=True is refused on torch")
    model = CifarResNet(8, input_shape=(8, 8, 3), norm=norm)
    before = [numpy(v) for v in model.trainable_variables if v.name == "kernel"]
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = model.fit(images(rng, (4, 8, 8, 3)), np.arange(4), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = [numpy(v) for v in model.trainable_variables if v.name == "kernel"]
    assert all((a != b).any() for a, b in zip(after, before, strict=True))


def test_without_the_top(rng):
    x = images(rng, (2, 13, 8, 3))
    kwargs = {"include_top": False, "input_shape": (None, None, 3), "norm": "ln"}
    maps = CifarResNet(8, **kwargs)
    y = numpy(maps(x))
    assert y.shape == (2, 4, 2, 64)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = CifarResNet(8, pooling=pooling, **kwargs)
        pooled.set_weights(maps.get_weights())
        expected = reduce(y, axis=(1, 2))
        np.testing.assert_allclose(numpy(pooled(x)), expected, rtol=1e-5)


def test_with_the_top_pooling_is_ignored():
    model = CifarResNet(8, pooling="max", norm="bn")
    assert isinstance(model.get_layer("pool"), keras.layers.GlobalAveragePooling2D)


def test_classes_and_logits(rng):
    x = images(rng, (2, 32, 32, 3))
    logits = CifarResNet(8, classes=4, classifier_activation=None)
    model = CifarResNet(8, classes=4)
    model.set_weights(logits.get_weights())
    expected = keras.ops.softmax(numpy(logits(x)))
    np.testing.assert_allclose(numpy(model(x)), numpy(expected), rtol=1e-5)


def test_named():
    assert CifarResNet(8, norm="bn", name="mine").name == "mine"
    assert CifarResNet20(norm="bn").name == "cifar_resnet20_bn"


def test_a_normalization_class():
    model = CifarResNet(8, norm=keras.layers.BatchNormalization)
    assert model.name == "cifar_resnet8_batchnormalization"
    assert all(type(n) is keras.layers.BatchNormalization for n in norms(model))


def test_norm_kwargs_stay_as_they_are():
    kwargs = {"epsilon": 1e-5}
    outline(NETWORKS["shufflenet_v2_x0.5"], norm_kwargs=kwargs)
    assert kwargs == {"epsilon": 1e-5}


def test_a_reduction_of_ones_own():
    model = outline(NETWORKS["shufflenet_v2_x0.5"], norm_kwargs={"reduction": 4})
    assert {layer.reduction for layer in norms(model)} == {4}


def test_on_an_input():
    inputs = keras.Input((20, 24, 1), name="mine")
    model = CifarResNet(8, input_tensor=inputs)
    assert model.inputs[0] is inputs and names(model)[0] == "mine"


def test_on_a_tensor_of_another_network():
    """The model starts where that one does."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.ZeroPadding2D(1)(keras.layers.Rescaling(1 / 255)(inputs))
    model = CifarResNet(8, input_tensor=x, classes=4)
    assert model.input_shape == (None, 16, 16, 3) and model.output_shape == (None, 4)
    assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)


def test_on_a_tensor_of_two_inputs(rng):
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    model = CifarResNet(8, input_tensor=keras.layers.Add()(inputs), norm="ln")
    x = images(rng, (2, 8, 8, 3))
    assert numpy(model([x, x])).shape == (2, 10)
