"""The loss of recipes, against a NumPy float64 oracle."""

import keras
import numpy as np
import pytest

from keras_en.training import losses
from keras_en.training.crossentropy import Crossentropy, balanced_weights
from tests.backends import numpy


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def oracle(labels, shares, smoothing=0.0, weights=None):
    classes = shares.shape[-1]
    targets = np.full(shares.shape, smoothing / classes)
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    each = -(targets * np.log(shares)).sum(axis=-1)
    return (each if weights is None else each * np.array(weights)[labels]).mean()


def test_two_classes_by_hand():
    """0.8 of the target on the right one, 0.2 on the other."""
    loss = Crossentropy(label_smoothing=0.4)
    value = float(loss(np.array([0]), np.array([[0.9, 0.1]], "float32")))
    assert value == pytest.approx(-0.8 * np.log(0.9) - 0.2 * np.log(0.1), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0, 1.0]])
@pytest.mark.parametrize("from_logits", [False, True])
def test_equals_the_oracle(rng, smoothing, weights, from_logits):
    scores = rng.normal(size=(6, 4))
    labels = np.array([0, 1, 1, 2, 3, 3])
    loss = Crossentropy(smoothing, weights, from_logits=from_logits)
    outputs = (scores if from_logits else softmax(scores)).astype("float32")
    expected = oracle(labels, softmax(scores), smoothing, weights)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    for each in (loss, again):
        for shape in ((6,), (6, 1)):
            value = float(numpy(each(labels.reshape(shape), outputs)))
            assert value == pytest.approx(expected, rel=1e-5)


def test_pixels_without_a_label_count_nowhere(rng):
    scores = rng.normal(size=(1, 2, 3, 4))
    labels = np.array([[[0, 255, 1], [255, 255, 3]]])
    loss = Crossentropy(ignore_class=255)
    value = float(numpy(loss(labels, softmax(scores).astype("float32"))))
    chosen = labels[0] != 255
    expected = oracle(labels[0][chosen], softmax(scores[0])[chosen])
    assert value == pytest.approx(expected, rel=1e-5)
    nothing = np.full_like(labels, 255)
    assert float(numpy(loss(nothing, softmax(scores).astype("float32")))) == 0


def test_each_image_counts_as_much(rng):
    """However much of it is void, so that parts of a batch are parts of its loss."""
    labels = rng.integers(0, 3, (4, 5, 6))
    labels[0, :4], labels[1, :, 1:], labels[3] = 255, 255, 255
    outputs = softmax(rng.normal(size=(4, 5, 6, 3))).astype("float32")
    loss = Crossentropy(ignore_class=255)
    each = [float(numpy(loss(labels[i : i + 1], outputs[i : i + 1]))) for i in range(4)]
    for i in range(3):
        chosen = labels[i] != 255
        expected = oracle(labels[i][chosen], outputs[i][chosen])
        assert each[i] == pytest.approx(expected, rel=1e-5)
    assert each[3] == 0
    assert float(numpy(loss(labels, outputs))) == pytest.approx(np.mean(each))
    outputs[0, 0] = np.nan  # void
    assert float(numpy(loss(labels, outputs))) == pytest.approx(np.mean(each))
    last = float(numpy(loss(labels[..., None], outputs)))
    assert last == pytest.approx(np.mean(each)), "labels with a last axis of one"


def test_balanced_weights_are_those_of_equal_classes(rng):
    """The weighted mean is the mean over classes of the mean over each class."""
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    weights = balanced_weights(labels, 4)
    assert weights[3] == 0
    values = rng.normal(size=8)
    of_classes = [values[labels == k].mean() for k in range(3)]
    weighted = (values * np.array(weights)[labels]).mean()
    # Of four classes one is without an image: the three others sum to 3 / 4.
    assert weighted == pytest.approx(np.sum(of_classes) / 4)


@pytest.mark.tensorflow
def test_a_label_out_of_range_is_an_error_as_with_keras_loss():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", Crossentropy(0.1))
    with pytest.raises(ValueError, match="labels from 0 to 2, .* Received: 3"):
        losses.check_labels(model, np.array([0, 3]), "step 0")


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\)"):
        Crossentropy(1.0)
    with pytest.raises(ValueError, match="`ignore_class` must be None with"):
        Crossentropy(0.1, ignore_class=255)
