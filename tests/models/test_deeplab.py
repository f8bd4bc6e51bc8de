"""DeepLab: dilation, sizes, and the weights of a classifier in it."""

import re

import keras
import numpy as np
import pytest

from keras_en.models import DeepLabResNet50, ResNet50
from keras_en.models.deeplab import ResizeLike
from tests.backends import BACKEND, images, numpy
from tests.models.networks import names, outline

# Of the losses, for a step that the auxiliary output alone takes.
WEIGHTS = {"main": 0.0, "auxiliary": 0.4}
KWARGS = {"include_top": False, "input_shape": (None, None, 3), "norm": "bn"}


def test_resizing_by_hand():
    """Two pixels to four: bilinear, with the centers of pixels at halves."""
    x, like = np.array([[[[0.0], [4.0]]]]), np.zeros((1, 1, 4, 1))
    resized = numpy(ResizeLike()([x, like]))
    assert resized.ravel().tolist() == [0, 1, 3, 4]


@pytest.fixture(scope="module")
def model():
    return DeepLabResNet50(aspp=True, input_shape=(None, None, 3), norm="bn", classes=3)


@pytest.fixture(scope="module")
def resnet():
    return ResNet50(**KWARGS)


@pytest.fixture(scope="module")
def features(resnet, tmp_path_factory):
    """With the weights of a file of the classifier."""
    path = tmp_path_factory.mktemp("resnet") / "m.weights.h5"
    resnet.save_weights(path)
    return DeepLabResNet50(weights=path, **KWARGS)


def test_the_size_of_outputs(rng, model):
    y = numpy(model(images(rng, (2, 33, 47, 3))))
    assert y.shape == (2, 33, 47, 3)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [(33, 47), (40, 32)])
def test_the_size_of_features(rng, features, size):
    y = features(images(rng, (1, *size, 3)))
    assert y.shape == (1, -(-size[0] // 8), -(-size[1] // 8), 2048)


def test_dilations(features):
    rates = {}
    for layer in features.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3):
            rates.setdefault(layer.name[:6], set()).add(layer.dilation_rate)
    assert rates == {
        "stage1": {(1, 1)},
        "stage2": {(1, 1)},
        # The first block has that of the stage before.
        "stage3": {(1, 1), (2, 2)},
        "stage4": {(2, 2), (4, 4)},
    }


def test_every_fourth_feature_is_that_of_the_classifier(rng, features, resnet):
    """What a stride leaves out is there, and nothing else has changed."""
    x = images(rng, (1, 65, 65, 3))
    outputs, expected = (numpy(m(x, training=False)) for m in (features, resnet))
    difference = np.abs(outputs[:, ::4, ::4] - expected).max()
    assert difference < 1e-5 * np.abs(expected).max()


def test_dilations_of_the_pyramid(model):
    rates = [model.get_layer(f"aspp_rate{r}_conv").dilation_rate for r in (12, 24, 36)]
    assert rates == [(12, 12), (24, 24), (36, 36)]
    assert model.get_layer("aspp_concat").output.shape[-1] == 5 * 256


def test_layers_and_weights_are_those_of_resnet50(features, resnet):
    """But for the padding of two convolutions that have no stride here."""
    not_here = {"stage3_block1_2_pad", "stage4_block1_2_pad"}
    assert names(features) == [n for n in names(resnet) if n not in not_here]
    for ours, theirs in zip(features.weights, resnet.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))


@pytest.mark.slow
@pytest.mark.tensorflow
def test_sizes_that_are_open(rng, model):
    """In a graph, as in `predict`, training and exports."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def served(x):
        return model(x, training=False)

    for size in (40, 33):
        x = images(rng, (1, size, 48, 3))
        expected = numpy(model(x, training=False))
        np.testing.assert_allclose(served(x).numpy(), expected, atol=1e-5)


def test_logits_are_resized_before_the_softmax(model):
    """Otherwise borders between classes would not be sharp."""
    assert names(model)[-3:] == ["predictions", "resize", "activation"]


def test_logits():
    model = outline(DeepLabResNet50, norm="bn", classifier_activation=None)
    assert model.output_shape == (None, 512, 512, 19)
    assert model.get_layer("activation").activation is keras.activations.linear


@pytest.fixture(scope="module")
def with_auxiliary():
    """Weights far from what the model without it starts with."""
    model = DeepLabResNet50(
        norm="bn", classes=3, head="fcn", auxiliary=True, input_shape=(None, None, 3)
    )
    for name in ("head_norm", "predictions"):
        for weight in model.get_layer(name).weights:
            weight.assign(weight + 0.1)
    return model


def test_an_auxiliary_output(rng, with_auxiliary):
    """On stage 3; both of the size of the image, and probabilities."""
    outputs = with_auxiliary(images(rng, (1, 33, 40, 3)))
    assert list(outputs) == ["main", "auxiliary"]
    for y in map(numpy, outputs.values()):
        assert y.shape == (1, 33, 40, 3)
        np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)
    head = with_auxiliary.get_layer("auxiliary_head")
    assert names(head)[1:] == [
        "auxiliary_conv",
        "auxiliary_norm",
        "auxiliary_relu",
        "auxiliary_predictions",
    ]
    assert head.input_shape[-1] == 1024
    convolution = head.get_layer("auxiliary_conv")
    assert (convolution.kernel_size, convolution.filters) == ((3, 3), 512)


def test_weights_fit_the_model_without_auxiliary(rng, with_auxiliary, tmp_path):
    """From a file and by the names of layers."""
    x = images(rng, (1, 33, 40, 3))
    expected = numpy(with_auxiliary(x, training=False)["main"])
    kwargs = {"norm": "bn", "classes": 3, "head": "fcn"}
    path = tmp_path / "m.weights.h5"
    with_auxiliary.save_weights(path)
    alone = DeepLabResNet50(input_shape=(33, 40, 3), weights=path, **kwargs)
    np.testing.assert_allclose(numpy(alone(x, training=False)), expected, atol=1e-6)
    for layer in alone.layers:
        theirs = with_auxiliary.get_layer(layer.name).get_weights()
        for ours, other in zip(layer.get_weights(), theirs, strict=True):
            np.testing.assert_array_equal(ours, other)


def test_the_auxiliary_output_reaches_stage_3(rng, with_auxiliary):
    """Of the auxiliary one alone stage 4 learns nothing."""
    model, loss = with_auxiliary, "sparse_categorical_crossentropy"
    losses = dict.fromkeys(WEIGHTS, loss)
    model.compile("sgd", losses, loss_weights=WEIGHTS, run_eagerly=BACKEND != "jax")
    layers = ("stage4_block3_3_conv", "stage3_block6_3_conv", "auxiliary_head")
    before = [model.get_layer(name).get_weights() for name in layers]
    y = rng.integers(0, 2, (2, 32, 32))
    model.train_on_batch(images(rng, (2, 32, 32, 3)), {"main": y, "auxiliary": y})
    after = [model.get_layer(name).get_weights() for name in layers]
    moved = [
        any((a != b).any() for a, b in zip(*pair, strict=True))
        for pair in zip(before, after, strict=True)
    ]
    assert moved == [False, True, True]


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"head": "psp"}, "`head` must be one of ('plain', 'fcn'). Received: head='ps"),
        ({"head": "fcn", "aspp": True}, "`head` must be 'plain' behind a pyramid, "),
        (
            {"auxiliary": True, "include_top": False},
            "`auxiliary` must be False without the top. Received: auxiliary=True",
        ),
    ],
)
def test_wrong_heads(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        DeepLabResNet50(norm="bn", **kwargs)


def test_resizing_is_bilinear():
    """Half-pixel centers, edges repeated."""
    maps = np.array([0, 1], "float32").reshape(1, 1, 2, 1)
    y = numpy(ResizeLike()([maps, np.zeros((1, 1, 4, 3), "float32")]))
    np.testing.assert_allclose(y.ravel(), [0, 0.25, 0.75, 1], atol=1e-6)


def test_a_configuration_keeps_its_data_format(rng, data_format):
    data_format("channels_first")
    layer = ResizeLike(name="a")
    data_format("channels_last")
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    y = again([images(rng, (1, 2, 3, 4)), images(rng, (1, 3, 6, 7))])
    assert again.name == "a" and y.shape == (1, 2, 6, 7)
