import contextlib
import csv

import numpy as np
import pytest

from keras_en.analysis import Ratios
from keras_en.analysis import ratios as module
from keras_en.analysis.running import Layer

LAYERS = (
    Layer("net/one", ("instance", "layer", "batch"), (8, 8)),
    Layer("net/two", ("layer", "batch")),
)
ONE = np.array([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]], "float32")
TWO = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], "float32")


def small(**kwargs):
    kwargs = {"labels": [7, 2, 7], "predicted": [7, 7, 7], **kwargs}
    return Ratios.of(LAYERS, [ONE, TWO], **kwargs)


def test_means_by_hand():
    ratios = small(class_names=list("abcdefgh"))
    assert ratios.normalizers == ("instance", "layer", "batch")
    expected = [[1.6 / 3, 0.2, 0.8 / 3], [np.nan, 0.25, 0.75]]
    np.testing.assert_allclose(ratios.mean(), expected, rtol=1e-6)
    assert ratios.classes.tolist() == [2, 7] and ratios.counts.tolist() == [1, 2]
    np.testing.assert_allclose(ratios.by_class()[1, 0], [0.6, 0.15, 0.25], rtol=1e-6)
    np.testing.assert_allclose(ratios.class_deviation()[1, 1, 1:], [0.25, 0.25])
    assert ratios.deviation()[1, 1] == pytest.approx(TWO[:, 0].std())
    assert ratios.class_name(2) == "c" and ratios.class_name(9) == "9"
    assert np.isnan(ratios.by_sample("net/two")[:, 0]).all()
    assert "net/one" in ratios and "net" not in ratios and len(ratios) == 2


@pytest.mark.parametrize("large", [False, True])
def test_a_file_gives_the_same(tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr(module, "LARGE", 8)
    ratios, path = small(class_names=list("abcdefgh")), tmp_path / "ratios.npz"
    ratios.save(path)
    again = Ratios.load(path)
    assert again.layers == LAYERS and again.class_names == ratios.class_names
    for name in ("classes", "counts", "labels", "predicted"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ratios, name))
    np.testing.assert_array_equal(again.by_class(), ratios.by_class())
    for path, values in ratios.items():
        np.testing.assert_allclose(again[path], values, atol=1e-3 if large else 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ratios.npz"]


def test_no_labels_and_no_samples(tmp_path):
    ratios = small(labels=None, predicted=None)
    with pytest.raises(ValueError, match="`labels` must be the class of each sample"):
        ratios.by_class()
    ratios.save(tmp_path / "ratios.npz")
    assert Ratios.load(tmp_path / "ratios.npz").labels is None
    summary = module.replace(small(), samples=None)
    with pytest.raises(ValueError, match="`samples` must be True"):
        summary["net/one"]
    summary.to_csv(tmp_path / "classes.csv")
    rows = list(csv.reader((tmp_path / "classes.csv").read_text().splitlines()))
    assert rows[0][:3] == ["class", "count", "net/one instance"]
    assert rows[2][:3] == ["7", "2", "0.6"]


def test_tables(tmp_path):
    small().to_csv(tmp_path / "ratios.csv")
    rows = list(csv.reader((tmp_path / "ratios.csv").read_text().splitlines()))
    assert rows[0][:4] == ["sample", "label", "predicted", "net/one instance"]
    assert rows[2] == ["1", "2", "7", "0.4", "0.3", "0.3", "0.25", "0.75"]
    pytest.importorskip("pandas", reason="pandas is not installed")
    table = small().to_pandas()
    row = table[(table["sample"] == 1) & (table["normalizer"] == "batch")]
    assert row["layer"].tolist() == ["net/one", "net/two"]
    assert row["ratio"].tolist() == [0.3, 0.75]


def test_other_files(tmp_path):
    text, array = tmp_path / "a.npz", tmp_path / "b.npz"
    text.write_text("no")
    np.savez(array, x=np.ones(3))
    for path in (text, array):
        with pytest.raises(
            ValueError, match="a file of ratios. Received: .*" + path.name
        ):
            Ratios.load(path)
    whole = tmp_path / "c.npz"
    Ratios.of(LAYERS, [ONE, TWO], labels=[0, 1, 1]).save(whole)
    data = whole.read_bytes()
    for place in range(0, len(data), 29):
        array.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        with contextlib.suppress(ValueError):
            Ratios.load(array)
    with pytest.raises(ValueError, match="`labels` must be of 3 samples"):
        Ratios.of(LAYERS, [ONE, TWO], labels=[1])
