"""Counts against loops over samples, and against Keras's metrics."""

import keras
import numpy as np
import pytest

from keras_en.training.confusion import Confusion, confusion, counted
from tests.training.networks import convolutional


def identity(scores):
    return scores


def test_by_hand():
    """Three images of two classes: 0 as 0, 0 as 1, 1 as 1."""
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    result = counted(identity, [(scores, np.array([0, 0, 1]))], 2)
    assert result.matrix.tolist() == [[1, 1], [0, 1]]
    assert (result.samples, result.top1, result.top5) == (3, 2, None)
    assert result.accuracy == 2 / 3 and result.top5_accuracy is None
    assert result.per_class.tolist() == [0.5, 1.0]
    assert result.iou.tolist() == [0.5, 0.5] and result.mean_iou == 0.5
    assert result.worst(20) == [(0, 1, 1)]


def test_the_first_five_of_equal_scores():
    """As `argmax` has the first; a score that is no number is no hit."""
    labels = np.arange(7)
    equal = counted(identity, [(np.ones((7, 7)), labels)], 7)
    assert (equal.top1, equal.top5) == (1, 5)
    nothing = counted(identity, [(np.full((7, 7), np.nan), labels)], 7)
    assert nothing.top5 == 0


def test_images(rng):
    """Batches of 5, 5 and 2, by a loop."""
    scores, labels = rng.random((12, 7)), rng.integers(0, 6, 12)
    batches = [(scores[i : i + 5], labels[i : i + 5]) for i in (0, 5, 10)]
    result = counted(identity, batches, 7)
    matrix, top5 = np.zeros((7, 7), int), 0
    for row, label in zip(scores, labels, strict=True):
        order = sorted(range(7), key=lambda k: -row[k])
        matrix[label, order[0]] += 1
        top5 += label in order[:5]
    np.testing.assert_array_equal(result.matrix, matrix)
    assert (result.top5, result.samples) == (top5, 12)
    for k in range(7):
        mine, ours = labels == k, scores.argmax(axis=1) == k
        if mine.any():
            assert result.per_class[k] == (mine & ours).sum() / mine.sum()
        union = (mine | ours).sum()
        iou = (mine & ours).sum() / union if union else np.nan
        np.testing.assert_equal(result.iou[k], iou)
    frequent = result.worst(3)
    assert [count for *_, count in frequent] == sorted(
        (int(matrix[t, p]) for t in range(7) for p in range(7) if t != p), reverse=True
    )[:3]


def test_pixels_but_those_that_are_void(rng):
    scores, labels = rng.random((4, 3, 5, 6)), rng.integers(0, 6, (4, 3, 5))
    labels[0, 0] = 255
    metric = keras.metrics.MeanIoU(6, ignore_class=255, sparse_y_pred=False)
    metric.update_state(labels, scores)
    result = counted(identity, [(scores, labels[..., None].astype("uint8"))], 6, 255)
    assert result.samples == 4 * 3 * 5 - 5 and result.top5 is None
    assert result.mean_iou == pytest.approx(float(metric.result()), rel=1e-6)
    hits = (scores.argmax(axis=-1) == labels)[labels != 255]
    assert result.accuracy == hits.mean()


def test_of_a_network(rng):
    model, x = convolutional("en"), rng.normal(size=(10, 8, 8, 3)).astype("float32")
    labels = rng.integers(0, 10, 10).astype("int32")
    batches = [(x[:4], labels[:4]), (x[4:8], labels[4:8]), (x[8:], labels[8:])]
    model.compile(
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5, name="t")],
    )
    _, accuracy, top5 = model.evaluate(x, labels, verbose=0)
    result = confusion(model, batches, 10)
    assert result.accuracy == pytest.approx(accuracy)
    assert result.top5_accuracy == pytest.approx(top5)


@pytest.mark.tensorflow
def test_every_sample_once_on_replicas(rng, strategy):
    with strategy.scope():
        model = convolutional("en")
    x, labels = rng.normal(size=(5, 8, 8, 3)).astype("float32"), np.arange(5)
    result = confusion(model, [(x, labels)], 10)
    assert result.matrix.sum(axis=1).tolist() == [1] * 5 + [0] * 5
    expected = np.asarray(model(x, training=False)).argmax(axis=1)
    assert [int(row.argmax()) for row in result.matrix[:5]] == expected.tolist()


def test_nothing_to_count():
    result = Confusion(np.zeros((2, 2), "int64"))
    assert np.isnan([result.accuracy, result.mean_iou, *result.iou]).all()
    assert result.worst(3) == []


@pytest.mark.parametrize(
    "labels, classes, message",
    [
        ([0, 3], 3, "labels from 0 to 2, or void"),
        ([0, -1], 3, "labels from 0 to 2, or void"),
        ([0, 1], 4, r"for \(2, 4\)"),
    ],
)
def test_wrong_batches(labels, classes, message):
    with pytest.raises(ValueError, match=message):
        counted(identity, [(np.zeros((2, 3)), np.array(labels))], classes)
