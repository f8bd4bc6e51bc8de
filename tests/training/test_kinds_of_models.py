"""`training.fit` on models of other dtypes, and of several inputs and outputs."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, training
from tests.backends import numpy
from tests.training.networks import SHAPE, assert_equal, network, one_and_many

pytestmark = pytest.mark.tensorflow


def test_a_sample_that_stands_in_counts_in_no_output(strategy):
    keras.utils.set_random_seed(0)
    x, y = np.array([[1.0, 2.0]], "float32"), np.array([[3.0]], "float32")

    def model():
        inputs = keras.Input((2,))
        heads = [keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
        built = keras.Model(inputs, heads)
        built.compile("sgd", ["mse", "mae"])
        return built

    one, many = one_and_many(strategy, model)
    many.set_weights(one.get_weights())
    batches = [(np.repeat(x, 4, 0), (np.zeros((4, 1)),) * 2), (x, (y, y))]
    expected = training.evaluate(one, batches, verbose=0)
    metrics = training.evaluate(many, batches, verbose=0)
    assert expected.keys() >= {"a_loss", "b_loss"}
    assert metrics == pytest.approx(expected, rel=1e-6)


def test_weights_of_two_dtypes(data, strategy):
    """One all-reduce cannot hold both."""
    x, y = data

    def model():
        keras.utils.set_random_seed(0)
        built = keras.Sequential(
            [
                keras.Input(SHAPE),
                ExemplarNormalization(dtype="float64", synchronized=True),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        built.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        return built

    one, many = one_and_many(strategy, model)
    for each in (one, many):
        training.fit(each, x, y, batch_size=8, verbose=0)
    assert_equal(one, many, 1e-5)


def test_mixed_precision(data, strategy):
    x, y = data
    with strategy.scope():
        model = network(dtype="mixed_bfloat16")
    history = training.fit(model, x, y, batch_size=8, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.layers[0].kernel.dtype == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [None, 2], ids="accumulated-{}".format)
def test_loss_scaling(data, strategy, accumulated):
    """The first scale overflows float16: those steps change no weight, and the scale
    falls, as with `model.fit`; on all replicas alike."""

    def model():
        keras.config.set_dtype_policy("mixed_float16")
        try:
            built = network()
            optimizer = keras.optimizers.SGD(
                0.1, momentum=0.9, gradient_accumulation_steps=accumulated
            )
            scaled = keras.optimizers.LossScaleOptimizer(optimizer, 2.0**20)
            built.compile(scaled, built.loss, metrics=["accuracy"])
        finally:
            keras.config.set_dtype_policy("float32")
        assert built.layers[0].compute_dtype == "float16"
        return built

    theirs = model()
    ours, many = one_and_many(strategy, model)
    options = {"batch_size": 8, "epochs": 8, "verbose": 0, "shuffle": False}
    histories = [training.fit(each, *data, **options).history for each in (ours, many)]
    theirs.fit(*data, **options)
    scales = [float(numpy(m.optimizer.dynamic_scale)) for m in (ours, theirs, many)]
    # What a replica sums in float16 is of fewer samples: it may overflow later.
    assert scales[0] == scales[1] <= scales[2] < 2.0**20
    copies = many.optimizer.dynamic_scale.value.values
    assert len({float(numpy(copy)) for copy in copies}) == 1
    for each in (ours, many):
        assert all(np.isfinite(numpy(v)).all() for v in each.trainable_variables)
    for history in histories:
        assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_named_inputs_and_outputs(data, strategy, float64):
    x, y = data
    inputs = {"image": x, "side": np.linspace(0, 1, len(y))[:, None]}
    targets = {"digit": y, "size": np.linspace(-1, 1, len(y))[:, None]}
    weights = {"digit": np.linspace(0, 2, len(y)), "size": np.ones(len(y))}

    def model():
        keras.utils.set_random_seed(0)
        image, side = keras.Input(SHAPE, name="image"), keras.Input((1,), name="side")
        hidden = keras.layers.Flatten()(ExemplarNormalization(synchronized=True)(image))
        hidden = keras.layers.Concatenate()([hidden, side])
        outputs = {
            "digit": keras.layers.Dense(3, "softmax", name="digit")(hidden),
            "size": keras.layers.Dense(1, name="size")(hidden),
        }
        built = keras.Model({"image": image, "side": side}, outputs)
        built.compile(
            keras.optimizers.SGD(0.05),
            {"digit": "sparse_categorical_crossentropy", "size": "mse"},
            loss_weights={"digit": 1.0, "size": 0.5},
            metrics={"digit": ["accuracy"]},
        )
        return built

    theirs = model()
    ours, many = one_and_many(strategy, model)
    # 20 and 1: a replica has none.
    options = {"sample_weight": weights, "batch_size": 20, "epochs": 3, "verbose": 0}
    options["validation_data"] = (inputs, targets)
    expected = theirs.fit(inputs, targets, shuffle=False, **options).history
    for each in (ours, many):
        history = training.fit(each, inputs, targets, shuffle=False, **options).history
        assert_equal(each, theirs, 1e-9)
        assert history.keys() == expected.keys()
        # Keras averages the others over batches, whatever their sizes.
        for name in ("loss", "val_loss", "digit_accuracy", "val_digit_accuracy"):
            np.testing.assert_allclose(history[name], expected[name], rtol=1e-6)
    whole = theirs.evaluate(inputs, targets, 21, verbose=0, return_dict=True)
    for each in (ours, many):
        metrics = training.evaluate(each, inputs, targets, batch_size=20, verbose=0)
        assert whole.keys() >= {"digit_loss", "size_loss"}
        assert metrics == pytest.approx(whole, rel=1e-6)


def test_gradients_of_embeddings(rng, strategy):
    """As many rows as a replica has samples: parts of four and three."""

    def model():
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Embedding(9, 3),
            ExemplarNormalization(synchronized=True, groups=1),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
        built = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
        built.compile("adam", "mse")
        return built

    x, y = rng.integers(0, 9, (7, 4)), rng.normal(size=(7, 2))
    one, many = one_and_many(strategy, model)
    for each in (one, many):
        training.fit(each, x, y, epochs=3, batch_size=7, verbose=0)
    assert_equal(one, many, 1e-5)
