import keras
import numpy as np
import pytest

from keras_en.analysis.batches import classes_of, source

X = np.arange(10, dtype="float32").reshape(5, 2)
Y = np.array([3, 1, 4, 1, 5])


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2]


def datasets():
    yield X, Y
    yield Pairs(), None
    yield ((X[i : i + 1], Y[i : i + 1, None]) for i in range(5)), None
    yield ([X[i : i + 1]] for i in range(5)), Y
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        yield tf.data.Dataset.from_tensor_slices((X, np.eye(6)[Y])).batch(2), None


def test_every_source_gives_the_same():
    for data, labels in datasets():
        parts = list(source(data, labels, 2).batches)
        x = [np.asarray(keras.tree.flatten(x)[0]) for x, _ in parts]
        np.testing.assert_array_equal(np.concatenate(x), X)
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), Y)


def test_several_inputs_and_their_steps():
    batches, steps = source({"a": X, "b": 2 * X}, Y, 4)
    (first, labels), (second, _) = batches
    assert steps == 2 and labels.tolist() == [3, 1, 4, 1]
    np.testing.assert_array_equal(second["b"], 2 * X[4:])
    assert first["a"].shape == (4, 2)


def test_what_are_classes():
    assert classes_of(np.array([[2.0], [0.0]])).tolist() == [2, 0]
    assert classes_of(np.eye(3)[[2, 0]]).tolist() == [2, 0]
    for other in (
        None,
        {"a": Y},
        np.array([0.5, 1]),
        np.ones((2, 3)),
        np.ones((2, 4, 4)),
    ):
        assert classes_of(other) is None


def test_errors():
    with pytest.raises(
        ValueError, match="`labels` must be of 5 samples. Received: .*4"
    ):
        source(X, Y[:4], 2)
    with pytest.raises(ValueError, match="`labels` must be integers"):
        source(X, X, 2)
    with pytest.raises(ValueError, match=r"arrays of \[4, 5\] samples"):
        source([X, X[:4]], None, 2)
    with pytest.raises(
        TypeError, match="`data` must be arrays with a sample, a tf.data"
    ):
        source(3, None, 2)
    for labels in (Y[:4], np.append(Y, 0)):
        with pytest.raises(ValueError, match="`labels` must be of"):
            list(source(([x] for x in (X[:3], X[3:])), labels, 2).batches)
