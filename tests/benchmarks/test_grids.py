"""The grids of `benchmarks/accuracy`."""

from pathlib import Path

import pytest

from keras_en.training.recipes.tables import load_table

GRIDS = sorted(Path(__file__).parents[2].glob("benchmarks/accuracy/grids/*.yaml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_arms_of_a_row_differ_in_the_norm_alone(path):
    """But for what only ratios of sparse switchable normalization have."""
    table = load_table(str(path))
    rows = {}
    for run in table.runs:
        assert run.load().norm.name == run.column.lower()
        others = [s for s in run.set if not s.startswith(("norm.", "optimizer.ratio_"))]
        rows.setdefault(run.row, []).append((run.recipe, others))
    for arms in rows.values():
        assert len(arms) >= 3 and all(arm == arms[0] for arm in arms)
