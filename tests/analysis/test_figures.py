import matplotlib.image
import numpy as np
import pytest

from keras_en.analysis import plot_class_ratios


def test_one_layer_and_one_class(tmp_path):
    ratios = {"norm": np.array([[0.2, 0.8], [0.4, 0.6]])}
    path = tmp_path / "ratios.png"
    means = plot_class_ratios(ratios, ("layer", "batch"), [7, 7], path)
    np.testing.assert_allclose(means, [[[0.3]], [[0.7]]])
    assert path.exists()


def test_means_by_layer_and_class(tmp_path):
    labels = [3, 5, 3, 5]
    ratios = {
        "first": np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]),
        "second": np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]),
    }
    path = tmp_path / "ratios.png"
    means = plot_class_ratios(ratios, ("layer", "batch"), labels, path, title="t")
    # (K, layers, classes)
    expected = [[[0.2, 0.3], [0.5, 0.5]], [[0.8, 0.7], [0.5, 0.5]]]
    np.testing.assert_allclose(means, expected)
    picture = matplotlib.image.imread(path)
    assert picture.ndim == 3 and len(np.unique(picture.reshape(-1, 4), axis=0)) > 10


def test_wrong_shape_writes_nothing(tmp_path):
    path = tmp_path / "ratios.png"
    with pytest.raises(
        ValueError, match=r"shape \(2, 2\). Received: a of shape \(3, 2\)"
    ):
        plot_class_ratios({"a": np.ones((3, 2))}, ("layer", "batch"), [0, 1], path)
    assert not path.exists()
