"""Runs that were interrupted and resumed against runs that were not."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_en import training
from tests.backends import numpy
from tests.training.networks import (
    Stop,
    assert_equal,
    assert_histories,
    network,
    state,
)

pytestmark = pytest.mark.tensorflow


def dense():
    """`y = w x + b` with `w = 1` and `b = 0`."""
    layer = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    return model


def test_a_checkpoint_by_hand(tmp_path):
    """`x = 1`, `y = 0`: the loss is 1, the gradients are 2 and 2, and the weights,
    less a quarter of them, 0.5 and -0.5; then the loss is 0."""
    x, y = np.ones((1, 1)), np.zeros((1, 1))
    training.fit(dense(), x, y, verbose=0, checkpoint=tmp_path)
    resumed = dense()
    options = {"verbose": 0, "checkpoint": tmp_path, "resume": True}
    history = training.fit(resumed, x, y, epochs=2, **options)
    assert history.history == {"loss": [1.0, 0.0]} and history.epoch == [0, 1]
    assert [v.numpy().item() for v in resumed.trainable_variables] == [0.5, -0.5]


@pytest.mark.slow
@pytest.mark.parametrize(
    "replicas, stop, optimizer",
    [(1, 2, "Adam"), (1, 3, "Nadam"), (2, 3, "Nadam"), (2, 5, "Adam")],
)
def test_a_run_resumed_is_one_never_interrupted(
    data, strategy, tmp_path, replicas, stop, optimizer
):
    """Dropout, a schedule, momentum and accumulated gradients have states."""
    x, y = data

    def make():
        schedule = keras.optimizers.schedules.CosineDecay(0.1, 9)
        kind = getattr(keras.optimizers, optimizer)
        with contextlib.nullcontext() if replicas == 1 else strategy.scope():
            return network(kind(schedule, gradient_accumulation_steps=2), dropout=0.3)

    whole, interrupted, resumed = make(), make(), make()
    options = {"batch_size": 8, "epochs": 3, "verbose": 0, "validation_data": data}
    expected = training.fit(whole, x, y, **options)
    options["checkpoint"], options["checkpoint_every"] = tmp_path / "run", 1
    with pytest.raises(KeyboardInterrupt):
        training.fit(interrupted, x, y, callbacks=[Stop(stop)], **options)
    history = training.fit(resumed, x, y, resume=True, **options)
    assert_equal(whole, resumed, 0)
    assert history.epoch == expected.epoch
    # What replicas had counted is restored in equal parts, which rounds otherwise.
    tolerance = 0 if replicas == 1 else 1e-6
    assert_histories(history.history, expected.history, rtol=tolerance)


def test_a_finished_run_resumed_does_nothing(data, tmp_path):
    model = network()
    options = {"batch_size": 8, "epochs": 2, "verbose": 0, "checkpoint": tmp_path}
    training.fit(model, *data, **options)
    again = network()
    history = training.fit(again, *data, resume=True, **options)
    assert history.epoch == [0, 1]
    assert_equal(again, model, 0)


def test_a_run_that_a_callback_stopped_has_ended(data, tmp_path):
    stop = keras.callbacks.EarlyStopping("loss", min_delta=100.0, patience=1)
    options = {"batch_size": 8, "epochs": 9, "verbose": 0, "checkpoint": tmp_path}
    model, again = network(), network()
    training.fit(model, *data, callbacks=[stop], **options)
    history = training.fit(again, *data, resume=True, **options)
    assert history.epoch == [0, 1]
    assert_equal(model, again, 0)


@pytest.mark.slow
def test_a_schedule_by_callback_resumed_in_mid_epoch(data, tmp_path):
    """It has acted on the learning rate that the checkpoint holds."""

    def decay():
        return keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5)

    whole, interrupted, resumed = network(), network(), network()
    options = {"batch_size": 8, "epochs": 2, "verbose": 0}
    training.fit(whole, *data, callbacks=[decay()], **options)
    options.update(checkpoint=tmp_path, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        training.fit(interrupted, *data, callbacks=[decay(), Stop(5)], **options)
    training.fit(resumed, *data, callbacks=[decay()], resume=True, **options)
    assert_equal(whole, resumed, 0)


def test_a_checkpoint_of_another_model(data, tmp_path):
    x, y = data
    options = {"batch_size": 8, "verbose": 0, "checkpoint": tmp_path}
    training.fit(network(), x, y, **options)
    other = network(normalizers=["layer", "batch"])
    before = state(other)
    with pytest.raises(ValueError, match=r"first difference is model/\d+/gamma: \(2"):
        training.fit(other, x, y, resume=True, **options)
    for name, value in before.items():
        np.testing.assert_array_equal(value, state(other)[name])
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(ValueError, match="cannot be read"):
        training.fit(network(), x, y, resume=True, **options)


def test_metrics_that_are_vectors(data, tmp_path):
    x, y = data
    labels = np.eye(3, dtype="float32")[y]
    model = network()
    model.compile(
        "sgd",
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.F1Score()],
    )
    options = {"batch_size": 8, "verbose": 0, "checkpoint": tmp_path}
    (scores,) = training.fit(model, x, labels, **options).history["f1_score"]
    assert len(scores) == 3 and all(isinstance(v, float) for v in scores)


def small(
    optimizer="adam",
    name="first",
    dtype=None,
    loss="mse",
    loss_weights=None,
    **options,
):
    """Two dense layers without EN, quick to train."""
    first = keras.layers.Dense(2, name=name, dtype=dtype, **options)
    model = keras.Sequential(
        [keras.Input((3,)), first, keras.layers.Dense(1, dtype=dtype)]
    )
    model.compile(optimizer, loss, loss_weights=loss_weights)
    return model


X, Y = np.ones((6, 3), "float32"), np.zeros((6, 1), "float32")


def fit(model, folder, **options):
    options = {"batch_size": 2, "verbose": 0, "epochs": 2, **options}
    return training.fit(model, X, Y, checkpoint=folder, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 3}, "batch_size: 3 here, 2 there"),
        ({"seed": 5}, "seed: 5 here, 0 there"),
        ({"shuffle": False}, "shuffle: False here, True there"),
        ({"name": "other"}, r"layers: \['other', .* here, \['first', .* there"),
        ({"optimizer": "adamw"}, "optimizer: AdamW here, Adam there"),
        ({"optimizer": keras.optimizers.Adam(beta_1=0.5)}, "'beta_1': 0.5} here"),
        ({"dtype": "mixed_bfloat16"}, r"'mixed_bfloat16'\] here, .*'float32'\] there"),
        ({"loss": "mae"}, "loss: mean_absolute_error here, mean_squared_error there"),
        ({"loss": keras.losses.Huber(delta=2.0)}, "loss: .*'delta': 2.0.* here"),
        ({"loss_weights": [2.0]}, r"weights of losses: \[2.0\] here, None there"),
        ({"activation": "tanh"}, "{'activation': 'tanh'}} here, .*'linear'}} there"),
        ({"kernel_regularizer": "l2"}, "'kernel_regularizer': {.*L2.* here, .*None"),
    ],
)
def test_a_run_of_other_settings_is_refused_but_by_force(tmp_path, options, message):
    fit(small(), tmp_path, epochs=1)
    names = {"batch_size", "seed", "shuffle"}.intersection(options)
    other = small(**{k: v for k, v in options.items() if k not in names})
    options = {name: options[name] for name in names}
    other.build((None, 3))
    before = [v.numpy() for v in other.variables]
    with pytest.raises(ValueError, match=f"(?s)force.*{message}"):
        fit(other, tmp_path, resume=True, **options)
    for value, variable in zip(before, other.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
    history = fit(other, tmp_path, resume="force", **options)
    assert history.epoch == [0, 1]


def test_layers_that_keras_numbers_and_another_learning_rate(tmp_path, capsys):
    fit(small(name=None), tmp_path, epochs=1)
    other = small(keras.optimizers.Adam(0.5), name=None)
    assert fit(other, tmp_path, resume=True, verbose=2).epoch == [0, 1]
    assert "with the learning rate 0.5, before 0.001" in capsys.readouterr().out
    assert float(numpy(other.optimizer.learning_rate)) == 0.5
    other = small(keras.optimizers.Adam(0.5), name=None)
    fit(other, tmp_path, epochs=3, resume=True, verbose=2)
    assert "learning rate" not in capsys.readouterr().out, "it is the run's by now"


def test_a_learning_rate_that_a_callback_changed(tmp_path):
    lower = keras.callbacks.LearningRateScheduler(lambda epoch: 0.25)
    fit(small(), tmp_path, epochs=1, callbacks=[lower])
    fit(again := small(), tmp_path, resume=True)
    assert float(numpy(again.optimizer.learning_rate)) == 0.25


@pytest.mark.parametrize(
    "one, other", [("float32", "float64"), ("float64", "float32"), ("bfloat16",) * 2]
)
def test_another_dtype_loads_nothing(tmp_path, one, other):
    fit(small(dtype=one), tmp_path, epochs=1)
    other = "float16" if one == other else other
    model = small(dtype=other)
    model.build((None, 3))
    before = [v.numpy() for v in model.variables]
    for resume in (True, "force"):
        with pytest.raises(ValueError, match=f"{other} here, .*{one} there"):
            fit(model, tmp_path, resume=resume)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_more_epochs_in_the_checkpoint_than_are_wanted(tmp_path):
    fit(small(), tmp_path, epochs=2)
    with pytest.raises(ValueError, match="`epochs` must be at least 2"):
        fit(small(), tmp_path, epochs=1, resume=True)


@pytest.mark.parametrize(
    "progress, message",
    [
        ({"epoch": -1}, "cannot be read"),
        ({"step": "1"}, "cannot be read"),
        ({"taken": 0, "step": 1}, "out of range"),
        ({"step": 4, "taken": 9}, "3 steps an epoch. Received: checkpoint.step=4"),
        ({"epoch": 7}, "`epochs` must be at least 7"),
        ({"history": None}, "out of range"),
        ({"rates": 0.1}, "out of range"),
    ],
)
def test_progress_that_no_run_has(tmp_path, progress, message):
    fit(small(), tmp_path, epochs=1)
    path = tmp_path / "checkpoint.npz"
    values = dict(np.load(path))
    state = json.loads(values["state"].tobytes())
    state["progress"].update(progress)
    values["state"] = np.frombuffer(json.dumps(state).encode(), "uint8")
    np.savez(path, **values)
    with pytest.raises(ValueError, match=message):
        fit(small(), tmp_path, epochs=2, resume=True)


def test_a_line_says_where_it_goes_on(tmp_path, capsys):
    fit(small(), tmp_path, epochs=1, resume=True, verbose=2)
    assert f"No checkpoint in {tmp_path}: a new run" in capsys.readouterr().out
    fit(small(), tmp_path, epochs=2, resume=True, verbose=2)
    assert "Resumed at epoch 1, step 0" in capsys.readouterr().out


def test_a_path_that_is_a_file_is_noticed_first(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match="`checkpoint` must be a folder"):
            training.fit(small(), lambda epoch: 1 / 0, checkpoint=path)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_a_link_points_to_stays(tmp_path):
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.partial").symlink_to(tmp_path / "thesis")
    fit(small(), tmp_path / "run", epochs=1)
    assert (tmp_path / "thesis").read_text() == "mine"
    assert os.listdir(tmp_path / "run") == ["checkpoint.npz"]


def test_a_folder_is_that_of_one_run_at_a_time(tmp_path):
    """The second call ends before it writes, the first goes on."""
    errors = []

    def second(*_):
        def call():
            try:
                fit(small(), tmp_path)
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    during = keras.callbacks.LambdaCallback(on_epoch_end=second)
    assert fit(small(), tmp_path, callbacks=[during]).epoch == [0, 1]
    assert len(errors) == 2 and "one run at a time" in errors[0]
    assert fit(small(), tmp_path, resume=True).epoch == [0, 1]


# Without TensorFlow, whose start takes longer than all the writes.
WRITER = """
import importlib.util, pathlib, sys
import numpy as np
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
path = pathlib.Path(sys.argv[2], "checkpoint.npz")
for i in range(int(sys.argv[3]), 10**6):
    values = {str(k): np.full(50_000, i) for k in range(4)}
    print(i, flush=True)
    with files.locked(path.parent):
        files.write_whole(
            path, path.with_suffix(".partial"), lambda f: np.savez(f, **values)
        )
"""


@pytest.mark.slow
def test_a_process_that_is_killed_loses_nothing(tmp_path):
    """20 kills at moments of their own: the file is whole, and the last or the one
    before; the next process goes on beside what is left."""
    source = Path(training.__file__).parents[1] / "files.py"
    chance, last = np.random.default_rng(0), 0
    for _ in range(20):
        command = [sys.executable, "-c", WRITER, source, tmp_path, str(last + 1)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            begun = int(line)
            if begun >= last + 2 and chance.random() < 0.5:
                break
        process.kill()
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        begun = int(rest[-1]) if rest else begun
        values = dict(np.load(tmp_path / "checkpoint.npz"))
        (number,) = {int(n) for value in values.values() for n in np.unique(value)}
        assert number in (begun - 1, begun)
        last = number
