"""Reports of runs: what they say, and that their pictures show it."""

import dataclasses
import importlib.util
import re
import struct

import numpy as np
import pytest

from keras_en.training import pictures, report
from keras_en.training.confusion import Confusion
from keras_en.training.pictures import Samples
from keras_en.training.report import Report, write_report

MATRIX = np.array([[8, 2], [0, 10]])


def example(**changes):
    values = Report(
        title="digits: CifarResNet, EN",
        command="keras-en train digits",
        settings="name: digits\n",
        history={"loss": [1.0, 0.5], "accuracy": [0.5, 0.75], "val_loss": [2.0, 1.0]},
        results={"test accuracy": 0.9, "images": 20},
        class_names=("a|b", "$x"),
        confusion=Confusion(MATRIX),
        files=("recipe.yaml", "history.csv"),
    )
    return dataclasses.replace(values, **changes)


def written(folder, **changes):
    """The text of a report, whose pictures are all there, and no more."""
    write_report(folder, example(**changes))
    text = (folder / "report.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", text))
    assert {path.name for path in folder.glob("*.png")} == drawn
    for name in drawn:
        data = (folder / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", data[16:24])
        assert 100 < width < 2000 and 100 < height < 3000
    return text, drawn


def test_classification(tmp_path):
    text, drawn = written(tmp_path)
    assert drawn == {"curves.png", "confusion.png"}
    assert text.startswith("# digits: CifarResNet, EN\n\n`keras-en train digits`\n")
    assert "| test accuracy | 0.9000 |\n| images | 20 |\n" in text
    assert "| a\\|b | 10 | 80.00% |\n| $x | 10 | 100.00% |\n" in text
    assert "```\nname: digits\n```" in text
    assert "- [recipe.yaml](recipe.yaml)\n- [history.csv](history.csv)\n" in text
    assert "Warning" not in text


def test_segmentation(tmp_path, rng):
    masks = rng.integers(0, 2, (2, 6, 8))
    masks[0, 0] = 255
    samples = Samples(rng.normal(size=(2, 6, 8, 3)), masks, masks)
    text, drawn = written(tmp_path, segmentation=True, samples=samples)
    assert drawn == {"curves.png", "samples.png"}
    assert "| a\\|b | 10 | 80.00% | 80.00% |\n| $x | 10 | 83.33% | 100.00% |" in text
    assert "| mean | 20 | 81.67% |  |" in text


def test_many_classes_are_listed(tmp_path):
    matrix = np.diag(np.full(101, 5))
    matrix[3, 7], matrix[100, 0] = 9, 2
    names = [f"class {i}" for i in range(101)]
    text, drawn = written(tmp_path, confusion=Confusion(matrix), class_names=names)
    assert drawn == {"curves.png"}
    rows = [line for line in text.splitlines() if line.startswith("| class ")]
    assert rows == ["| class 3 | class 7 | 9 |", "| class 100 | class 0 | 2 |"]


def test_warnings_come_first(tmp_path):
    text, _ = written(tmp_path, warnings=("Beware.",))
    assert text.index("> **Warning.** Beware.") < text.index("## Results")


def test_without_matplotlib(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        report.importlib.util,
        "find_spec",
        lambda name: None if name == "matplotlib" else find(name),
    )
    text, drawn = written(tmp_path)
    assert not drawn and "No pictures: they need `pip install" in text
    assert "| a\\|b | $x | 2 |" in text


def test_all_or_nothing(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError

    monkeypatch.setattr(pictures, "draw_confusion", broken)
    with pytest.raises(RuntimeError):
        write_report(tmp_path, example())
    assert not list(tmp_path.iterdir())


def test_pictures_of_all_sizes(tmp_path, rng):
    """As many classes as there are names, numbers and colours for, and beyond."""
    for classes in (1, 20, 21, 60):
        names = [f"class {i}" for i in range(classes)]
        matrix = rng.integers(0, 9, (classes, classes))
        pictures.draw_confusion(tmp_path / f"{classes}.png", matrix, names)
        masks = rng.integers(0, classes, (8, 4, 4))
        samples = Samples(np.zeros((8, 4, 4, 1)), masks, masks)
        pictures.draw_samples(tmp_path / f"samples_{classes}.png", samples, names)
    pictures.draw_curves(tmp_path / "curves.png", {"loss": [1.0]})
    assert len(list(tmp_path.iterdir())) == 9
