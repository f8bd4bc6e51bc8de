import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, training
from keras_en.analysis import RatioHistory, RatioRecorder, collect_ratios
from tests.backends import BACKEND, images


def network():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4, 4, 2)), ExemplarNormalization(name="norm")]
    layers += [keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential(layers, name="net")
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    return model


@pytest.fixture
def data(rng):
    return images(rng, (8, 4, 4, 2)), np.array([0, 1] * 4)


@pytest.mark.parametrize("whole", [False, True])
def test_epochs_of_fit(tmp_path, data, whole):
    fit = training.fit if whole and BACKEND == "tensorflow" else keras.Model.fit
    model, path = network(), tmp_path / "ratios.npz"
    recorder = RatioRecorder(*data, path, every=2, class_names=["a", "b"])
    fit(model, *data, epochs=3, batch_size=4, callbacks=[recorder], verbose=0)
    history = RatioHistory.load(path)
    assert history.epochs == [0, 2, 3] == recorder.history.epochs
    np.testing.assert_allclose(history.mean()[0, 0], 1 / 3, atol=1e-6)
    assert np.abs(history.mean()[-1] - 1 / 3).max() > 1e-4, "it has learned"
    now = collect_ratios(model, *data)
    np.testing.assert_allclose(history.last.by_class(), now.by_class(), atol=1e-6)
    np.testing.assert_allclose(history.last["net/norm"], now["net/norm"], atol=1e-3)
    assert history.by_class().shape == (3, 2, 1, 3)
    assert history.last.class_names == ("a", "b")


def test_a_training_that_goes_on(tmp_path, data):
    path, model = tmp_path / "ratios.npz", network()
    first = RatioRecorder(*data, path)
    model.fit(*data, epochs=2, callbacks=[first], verbose=0)
    before = first.history.mean()
    again = RatioRecorder(*data, path)
    model.fit(*data, epochs=3, initial_epoch=1, callbacks=[again], verbose=0)
    history = RatioHistory.load(path)
    assert history.epochs == [0, 1, 2, 3]
    np.testing.assert_array_equal(history.mean()[:2], before[:2])
    assert (history.mean()[2] != before[2]).any(), "a repeated epoch is replaced"
    other = RatioRecorder(data[0][:4], data[1][:4], path)
    with pytest.raises(ValueError, match="`path` must be a file of the same training"):
        model.fit(*data, epochs=4, initial_epoch=3, callbacks=[other], verbose=0)


def test_errors(tmp_path, data):
    with pytest.raises(ValueError, match="`data` must be the same in every epoch"):
        RatioRecorder(iter([data]))
    (tmp_path / "no.npz").write_text("no")
    with pytest.raises(ValueError, match="a file of ratios. Received: .*no.npz"):
        RatioHistory.load(tmp_path / "no.npz")


def test_a_training_that_begins_anew(tmp_path, data):
    path = tmp_path / "ratios.npz"
    network().fit(*data, epochs=2, callbacks=[RatioRecorder(*data, path)], verbose=0)
    model = network()
    model.get_layer("norm").ratio_output_bias.assign([0.0, 1.0, 2.0])
    first = collect_ratios(model, *data).mean()
    again = RatioRecorder(*data, path)
    model.fit(*data, epochs=1, callbacks=[again], verbose=0)
    assert again.history.epochs == [0, 1]
    np.testing.assert_allclose(again.history.mean()[0], first, atol=1e-6)
