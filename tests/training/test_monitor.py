"""What TensorBoard shows, read back by TensorFlow where that is the backend."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, training
from keras_en.analysis import collect_ratios
from keras_en.analysis.collect import Collector
from keras_en.training import monitor
from keras_en.training.monitor import TensorBoard, learning_rate, mean_ratios
from tests.backends import images, randomize
from tests.training.networks import convolutional, network, one_and_many
from tests.training.test_events import scalars


def test_ratios_by_hand():
    """They start equal; a layer that is called twice has an entry a call."""
    inputs = keras.Input((4, 4, 3))
    norm = ExemplarNormalization(normalizers=("layer", "batch"), name="norm")
    model = keras.Model(inputs, norm(norm(inputs)), name="model")
    half = {"layer": 0.5, "batch": 0.5}
    assert mean_ratios(Collector(model), np.zeros((2, 4, 4, 3))) == {
        "norm": half,
        "norm/1": half,
    }


def test_ratios_are_those_of_the_analysis(rng):
    model, x = convolutional("en"), images(rng, (5, 8, 8, 3))
    randomize(model.get_layer("second"), rng)
    ratios = collect_ratios(model, x)
    means = mean_ratios(Collector(model), x)
    assert means.keys() == ratios.keys()
    for key, values in ratios.items():
        expected = np.mean(values, axis=0)
        np.testing.assert_allclose(list(means[key].values()), expected, rtol=1e-6)


@pytest.mark.tensorflow
def test_scalars_of_our_fit(data, tmp_path):
    x, y = data
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 6, 0.0)
    model = network(keras.optimizers.SGD(schedule))
    history = training.fit(
        model, x, y, batch_size=7, epochs=2, verbose=0, validation_data=(x[:7], y[:7]),
        callbacks=[TensorBoard(tmp_path, probe=x[:3])],
    ).history  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "validation"]
    train, validation = (
        [event for event in scalars(tmp_path / part) if event[1]]
        for part in ("train", "validation")
    )
    assert [step for step, _ in train] == [step for step, _ in validation] == [1, 2]
    for i in range(2):
        for name in ("loss", "accuracy", "weighted"):
            values = train[i][1][f"epoch_{name}"], validation[i][1][f"epoch_{name}"]
            expected = history[name][i], history[f"val_{name}"][i]
            np.testing.assert_allclose(values, expected, rtol=1e-6)
        assert train[i][1]["epoch_learning_rate"] == pytest.approx([0.25, 0][i])
    ratios = {tag: v for tag, v in train[1][1].items() if tag.startswith("ratios/")}
    for path, means in mean_ratios(Collector(model), x[:3]).items():
        for name, value in means.items():
            assert ratios.pop(f"ratios/{path}/{name}") == pytest.approx(value)
    assert not ratios


@pytest.mark.tensorflow
def test_under_a_strategy(data, strategy):
    """The ratios of a network on replicas are those of one device."""
    x, _ = data
    one, many = one_and_many(strategy, network)
    (ratios,), (expected,) = (
        mean_ratios(Collector(m), x).values() for m in (many, one)
    )
    assert ratios == expected


def test_in_model_fit(data, tmp_path):
    x, y = data
    network().fit(x, y, verbose=0, callbacks=[TensorBoard(tmp_path, x[:2])])
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    (file,) = (tmp_path / "train").iterdir()
    assert b"ratios/" in file.read_bytes()


def test_the_rate_behind_a_loss_scale():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)), "mse")
    assert learning_rate(model) == 0.5


def test_another_process_writes(data, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "writes", lambda model: False)
    x, y = data
    network().fit(x, y, verbose=0, callbacks=[TensorBoard(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
