"""`training.fit` against `model.fit`, and replicas against one device."""

from operator import attrgetter

import keras
import numpy as np
import pytest

from keras_en import training
from tests.backends import numpy
from tests.training.networks import (
    assert_equal,
    assert_histories,
    network,
    one_and_many,
)

pytestmark = pytest.mark.tensorflow


def test_one_step_by_hand(strategy):
    """`w = 1`, `x = (1, 2, 3)`, `y = 0`: the loss is the mean of `(w x)^2`, 14 / 3, and
    its gradient `2 * 14 / 3`; halves of two samples and one weigh 2 / 3 and 1 / 3."""
    x = np.array([[1.0], [2.0], [3.0]])
    with strategy.scope():
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((1,)), dense])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    history = training.fit(model, x, 0 * x, batch_size=3, verbose=0).history
    assert history["loss"] == [pytest.approx(14 / 3)]
    assert numpy(dense.kernel).item() == pytest.approx(1 - 0.1 * 28 / 3, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_on_one_device_it_is_keras_fit(data, jit_compile):
    x, y = data
    ours, theirs = (network(jit_compile=jit_compile) for _ in range(2))
    options = {"batch_size": 8, "epochs": 3, "verbose": 0, "shuffle": False}
    history = training.fit(ours, x, y, validation_data=data, **options)
    expected = theirs.fit(x, y, validation_data=data, **options)
    assert_equal(ours, theirs, 1e-6)
    assert history.epoch == expected.epoch
    assert_histories(history.history, expected.history, atol=1e-5)
    assert ours.history is history


@pytest.mark.thorough
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
        lambda: keras.optimizers.Nadam(0.01, gradient_accumulation_steps=2),
        lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9),
    ],
    ids=["adam accumulated", "nadam accumulated", "averaged"],
)
def test_optimizers_end_as_keras_fit_has_them(data, float64, optimizer):
    """Bias corrections count updates, not steps; averages end up in the weights."""
    ours, theirs = network(optimizer()), network(optimizer())
    options = {"batch_size": 8, "epochs": 4, "verbose": 0, "shuffle": False}
    training.fit(ours, *data, **options)
    theirs.fit(*data, **options)
    assert_equal(ours, theirs, 1e-9)


class Evaluates(keras.callbacks.Callback):
    def __init__(self, data):
        super().__init__()
        self.data = data

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            training.evaluate(self.model, *self.data, verbose=0)


@pytest.mark.slow
def test_evaluation_from_a_callback_changes_nothing(data, strategy, float64):
    with strategy.scope():
        plain, watched = network(), network()
    options = {"batch_size": 8, "epochs": 2, "verbose": 0}
    expected = training.fit(plain, *data, **options)
    history = training.fit(watched, *data, callbacks=[Evaluates(data)], **options)
    assert_equal(plain, watched, 1e-12)
    assert history.epoch == expected.epoch


def test_evaluate_keeps_the_history(data):
    model = network()
    history = training.fit(model, *data, batch_size=8, verbose=0)
    training.evaluate(model, *data, verbose=0)
    assert model.history is history and history.epoch == [0]


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "clipped": lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.1),
    "each clipped": lambda: keras.optimizers.SGD(0.5, clipnorm=0.05),
    "accumulated": lambda: keras.optimizers.SGD(
        0.1, momentum=0.9, gradient_accumulation_steps=2
    ),
    "averaged": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9),
}


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [8, 50, 20], ids="batch-{}".format)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replicas_are_one_device(data, strategy, float64, optimizer, batch_size):
    """21 samples: batches of 8, 8, 5; one uneven batch; 20 and a single sample, which
    leaves a replica empty."""
    x, y = data
    weight = np.linspace(0, 2, len(y)).astype("float32")
    # float64: Adam turns the rounding of gradients near 0 into steps.
    one, many = one_and_many(strategy, lambda: network(OPTIMIZERS[optimizer]()))
    options = {"batch_size": batch_size, "epochs": 2, "verbose": 0}
    options["sample_weight"] = weight
    options["validation_data"] = (x[:7], y[:7])
    expected = training.fit(one, x, y, **options).history
    history = training.fit(many, x, y, **options).history
    assert_equal(one, many, 1e-9)
    assert expected.keys() >= {"loss", "val_accuracy", "weighted"}
    assert_histories(history, expected, rtol=1e-5)


def test_gradients_are_clipped_after_their_sum(data, strategy):
    """Keras clips what each replica has: a step of several is then another one."""
    x, y = data
    with strategy.scope():
        model = network(keras.optimizers.SGD(1.0, global_clipnorm=0.1))
    before = [numpy(v) for v in model.trainable_variables]
    training.fit(model, x, y, batch_size=21, verbose=0)
    moved = [
        np.sum((numpy(v) - b) ** 2)
        for v, b in zip(model.trainable_variables, before, strict=True)
    ]
    np.testing.assert_allclose(np.sqrt(sum(moved)), 0.1, rtol=1e-4)


def test_an_uneven_first_batch(data, strategy):
    """`model.fit` builds the metrics on an average of the replicas' inputs."""
    x, y = data[0][:5], data[1][:5]
    with strategy.scope():
        model = network()
    history = training.fit(model, x, y, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("samples", [1, 2, 7, 21])
def test_every_sample_is_evaluated_once(data, strategy, samples):
    x, y = data[0][:samples], data[1][:samples]
    with strategy.scope():
        model = network()
    model.layers[-1].bias.assign([0.3, 0.0, -0.1])
    logits = numpy(model(x))
    metrics = training.evaluate(model, x, y, batch_size=4, verbose=0)
    assert metrics["accuracy"] == pytest.approx((logits.argmax(1) == y).mean())
    expected = model.compute_loss(y=y, y_pred=keras.ops.convert_to_tensor(logits))
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [8, 20])
def test_parts_compiled_between_collectives(data, strategy, float64, batch_size):
    """As `jit_compile=True` asks, which for a whole step cannot be had."""
    import tensorflow as tf

    x, y = data
    one = network()
    training.fit(one, x, y, batch_size=batch_size, epochs=2, verbose=0)
    with strategy.scope():
        many = network(jit_compile=True)
    training.fit(many, x, y, batch_size=batch_size, epochs=2, verbose=0)
    assert_equal(one, many, 1e-9)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(many.layers[1](x, training=True) ** 2)
        return tape.gradient(loss, many.layers[1].gamma.value)

    from keras_en.ops import tracing

    def compiled(wanted):
        @tf.function(autograph=False)
        def run(x):
            if wanted:
                tracing.compile_islands()
            return strategy.run(step, (x,))

        graph = run.get_concrete_function(tf.TensorSpec((4, 4, 4, 8), "float64")).graph
        functions = attrgetter("library.function")(graph.as_graph_def())
        return sum(function.attr["_XlaMustCompile"].b for function in functions)

    assert compiled(True) >= 2 * 4, "two replicas, two parts, both directions"
    assert compiled(False) == 0


def test_a_whole_step_of_replicas_says_what_to_do(data, strategy):
    with strategy.scope():
        model = network(jit_compile=True)
    with pytest.raises(ValueError, match=r"keras_en\.training\.fit.*2 replicas"):
        model.fit(*data, batch_size=8, verbose=0)


@pytest.mark.slow
def test_datasets_and_functions_of_the_epoch(data, strategy):
    import tensorflow as tf

    x, y = data
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    seen = []

    def batches(epoch):
        seen.append(epoch)
        return dataset

    expected = None
    for source in (dataset, batches, list(dataset.as_numpy_iterator())):
        with strategy.scope():
            model = network()
        training.fit(model, source, epochs=2, verbose=0, validation_data=dataset)
        expected = expected or model
        assert_equal(model, expected, 0)
    assert seen == [0, 0, 1], "built from the first, then every epoch"


def test_validation_data_as_a_list_of_batches(data):
    x, y = data
    arrays, batches = (
        training.fit(network(), x, y, verbose=0, validation_data=held_out).history
        for held_out in ((x[:8], y[:8]), [(x[:4], y[:4]), (x[4:8], y[4:8])])
    )
    assert "val_loss" in arrays
    assert_histories(batches, arrays, rtol=1e-5)


def test_callbacks(data, tmp_path, capsys):
    x, y = data
    model = network()
    path, ends = tmp_path / "best.weights.h5", []
    callbacks = [
        keras.callbacks.EarlyStopping("loss", min_delta=100.0, patience=1),
        keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
        keras.callbacks.ReduceLROnPlateau("loss", min_delta=100.0, patience=1),
        keras.callbacks.LambdaCallback(on_train_end=ends.append),
    ]
    history = training.fit(
        model, x, y, batch_size=8, epochs=9, callbacks=callbacks, verbose=2
    )
    assert history.epoch == [0, 1], "stopped early"
    assert [logs["loss"] for logs in ends] == history.history["loss"][-1:]
    assert path.exists()
    assert "Epoch 2/9" in capsys.readouterr().out


def test_keras_fits_on_afterwards(data):
    x, y = data
    ours = network(OPTIMIZERS["accumulated"]())
    theirs = network(OPTIMIZERS["accumulated"]())
    options = {"batch_size": 7, "verbose": 0, "shuffle": False}
    training.fit(ours, x, y, epochs=2, **options)
    ours.fit(x, y, epochs=2, **options)
    theirs.fit(x, y, epochs=4, **options)
    assert_equal(ours, theirs, 1e-6)


class Own(keras.Model):
    def train_step(self, data):
        return {}

    def call(self, x):
        return x


def test_bad_input(data, strategy, tmp_path):
    import tensorflow as tf

    x, y = data
    model = network()

    def refused(match, error=ValueError, model=model, x=x, y=y, **kwargs):
        with pytest.raises(error, match=match):
            training.fit(model, x, y, verbose=0, **kwargs)

    refused("`epochs` must be an integer of at least 0.*Received", epochs=-1)
    refused("`batch_size` must be", batch_size=0)
    refused("`checkpoint_every`", checkpoint=tmp_path, checkpoint_every=0)
    refused("`checkpoint` must be a folder", resume=True)
    refused(r"as many samples.*Received: \[21, 20\]", y=y[:-1])
    refused("`y` and `sample_weight` must be None", x=[(x, y)])
    endless = tf.data.Dataset.from_tensors((x, y)).repeat()
    refused("must be data that ends", x=endless, y=None)
    refused("iterable once an epoch", TypeError, x=iter([(x, y)]), y=None)
    refused("must be arrays, an iterable", TypeError, x=3, y=None)
    refused("at least one batch. Received: x.batches=0", x=[], y=None)
    refused("tensors of one length", x=[(x, y[:-1])], y=None)
    refused("compiled keras.Model", model=keras.Sequential([keras.layers.Dense(2)]))
    own = Own()
    own.compile("sgd", "mse")
    refused("`train_step` of its own", model=own)
    frozen = network()
    frozen.trainable = False
    frozen.compile("sgd", frozen.loss)
    refused("must be a network with trainable weights", model=frozen)
    averaged = keras.optimizers.SGD(use_ema=True, gradient_accumulation_steps=2)
    refused("use_ema=False, or no gradient_acc", model=network(averaged))
    refused("PyDataset becomes one by", TypeError, x=keras.utils.PyDataset(), y=None)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    refused("must be without BackupAndRestore", callbacks=[backup])
    with strategy.scope():
        many = network()
        summed = network()
        summed.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(reduction="sum")
        )
    many.compile("sgd", "sparse_categorical_crossentropy")
    refused("scope of the strategy", model=many)
    refused("average over samples.*Received: model.loss.reduction='sum'", model=summed)
