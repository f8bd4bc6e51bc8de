"""Where batches come from."""

import keras
import numpy as np
import pytest

import keras_en
from keras_en import ExemplarNormalization, training
from keras_en.training import feed


def test_three_samples_by_hand():
    x, y = np.arange(3.0), np.arange(3.0) * 10
    data = feed.source(x, y, None, batch_size=2)
    assert data.steps == 2
    batches = [(x.tolist(), y.tolist()) for x, y, _ in data.batches(0)]
    assert batches == [([0, 1], [0, 10]), ([2], [20])]


@pytest.mark.tensorflow
def test_what_is_not_dense_is_refused():
    """In one line, by everything that reads batches."""
    import tensorflow as tf

    model = keras.Sequential([keras.Input((3,)), ExemplarNormalization()])
    model.compile("sgd", "mse")
    dense = np.eye(3, dtype="float32")
    sparse = tf.sparse.from_dense(dense)
    ragged = tf.RaggedTensor.from_tensor(dense)
    for tensor, kind in ((sparse, "SparseTensor"), (ragged, "RaggedTensor")):
        data = tf.data.Dataset.from_tensor_slices((tensor, dense)).batch(2)
        message = f"`x` must hold dense tensors.*to_dense.*Received: {kind}"
        for run in (
            lambda data=data: training.fit(model, data),
            lambda data=data: training.evaluate(model, data),
            lambda data=data: training.recalibrate(model, data),
            lambda tensor=tensor: training.fit(model, tensor, dense),
            lambda tensor=tensor: training.recalibrate(model, tensor),
        ):
            with pytest.raises(TypeError, match=message):
                run()


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["dictionary of lists", "list with a dictionary"])
def test_nested_inputs_are_arrays(rng, kind):
    """As `model.fit` takes them."""
    arrays = [rng.normal(size=(5, size)).astype("float32") for size in (3, 2)]
    inputs = [keras.Input((3,)), keras.Input((2,))]
    nest = {
        "dictionary of lists": lambda a, b: {"p": [a, b]},
        "list with a dictionary": lambda a, b: [{"p": a}, b],
    }[kind]
    both = keras.layers.Concatenate()(inputs)
    outputs = keras.layers.Dense(1)(ExemplarNormalization()(both))
    model = keras.Model(nest(*inputs), outputs)
    model.compile("sgd", "mse")
    x, y = nest(*arrays), np.zeros((5, 1))
    expected = model.evaluate(x, y, verbose=0)
    data = {"validation_data": (x, y), "verbose": 0}
    assert training.evaluate(model, x, y, verbose=0)["loss"] == pytest.approx(expected)
    assert training.fit(model, x, y, **data).epoch == [0]
    training.recalibrate(model, x)
    assert keras_en.analysis.collect_ratios(model, x, verbose=0).count == 5
