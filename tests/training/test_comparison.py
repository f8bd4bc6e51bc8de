"""Paired differences of a table's arms."""

import math

import pytest

from keras_en.training import comparison, reproduction
from keras_en.training.recipes.tables import load_table
from tests.training.test_reproduction import finish

ACCURACY = {"BN": (0.80, 0.82), "SN": (0.85,), "EN": (0.83, 0.84)}


@pytest.fixture
def trainings(tmp_path):
    """ResNet8 of Table 5: SN with one seed only."""
    table = load_table("table5", "small")
    runs = reproduction.trainings(table, tmp_path, [0, 1], only=["ResNet8"])
    for training in runs:
        values = ACCURACY[training.run.arm]
        if training.seed < len(values):
            finish(training, top1=values[training.seed])
    return runs


def test_by_hand(trainings):
    """EN - BN: 3 and 2 points, mean 2.5, t(1) = 12.706, deviation 1 / sqrt(2)."""
    table = load_table("table5", "small")
    to_bn, to_sn = comparison.differences(table, trainings)
    assert (to_bn.other, to_sn.other) == ("BN", "SN")
    assert to_bn.values == pytest.approx((3, 2)) and to_sn.values == pytest.approx([-2])
    half = 12.706 * math.sqrt(0.5) / math.sqrt(2)
    assert to_bn.interval() == pytest.approx((2.5 - half, 2.5 + half), abs=0.01)
    assert to_sn.interval() is None
    text = comparison.markdown([to_bn, to_sn])
    row = "| CIFAR-10, ResNet8, EN - BN | top1 | +2.50 | -3.85 to +8.85 | 2 |"
    assert row in text and "EN - SN | top1 | -2.00 |  | 1 |" in text


def test_every_table_compares_something_that_is_there(tmp_path):
    for number in range(2, 10):
        for scale in ("paper", "small"):
            table = load_table(f"table{number}", scale)
            runs = reproduction.trainings(table, tmp_path / f"{number}{scale}", [0])
            finished = {}
            for run in runs:
                if run.folder not in finished:
                    finish(run, top1=0.5, top5=0.5, miou=0.5)
                    finished[run.folder] = True
                for report in run.evaluations:
                    report.write_text('{"metrics": {"top1": 0.5, "miou": 0.5}}')
            assert comparison.differences(table, runs), (number, scale)


def test_points(trainings, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = tmp_path / "points.png"
    assert comparison.plot_points(trainings, path, "three arms")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not comparison.plot_points([], path, "none")
