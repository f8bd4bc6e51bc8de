"""The networks are those of the paper: parameters and operations of its tables."""

import pytest

from keras_en import cli
from keras_en.models import summary

pytestmark = pytest.mark.tensorflow


def test_a_table_by_hand():
    """Half a billion multiply-adds; the paper's number of parameters in parentheses."""
    row = summary.Row("Net", "bn", 1_500_000, 0.5, 0.6, None, 0.7, 1.4)
    head, _, line = summary.markdown([row]).splitlines()
    cells = ["Net", "bn", "1.50 (1.40)", "0.500", "0.600", "", "0.700"]
    assert [cell.strip() for cell in line.strip("|").split("|")] == cells
    assert len(line) == len(head), "columns stand below one another"


def test_batch_normalization_is_as_printed():
    """To 0.01 M and 2 %: that proves the architecture."""
    networks = ["ShuffleNetV2 x0.5", "ResNet50", "InceptionV2"]
    rows = summary.summary_table(networks, ["bn"])
    for row in rows:
        assert abs(row.parameters / 1e6 - row.paper_parameters) < 0.01, row
        assert row.counted == pytest.approx(row.paper_gflops, rel=0.02), row
        assert row.products < row.gflops < row.counted


@pytest.mark.slow
def test_exemplar_normalization_follows_table_1():
    """2 K C + C + Psi(K) a layer; operations less than the paper's."""
    bn, en = summary.summary_table(["ShuffleNetV2 x0.5"], ["bn", "en"])
    assert en.parameters - bn.parameters == 5 * 3976 + 56 * 1953
    assert en.gflops - bn.gflops < en.paper_gflops - bn.paper_gflops
    text = summary.markdown([bn, en])
    assert "| ShuffleNetV2 x0.5 | bn   | 1.37 (1.37)    | 0.040            |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_unknown_network_and_command(capsys):
    with pytest.raises(ValueError, match="`networks` must be names .*'ResNet51'"):
        summary.summary_table(["ResNet51"])
    command = ["models", "--network", "ShuffleNetV2 x0.5", "--norm", "bn"]
    assert cli.main(command) == 0
    assert "0.046" in capsys.readouterr().out
