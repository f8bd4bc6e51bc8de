"""The grids of `benchmarks/accuracy`."""

from pathlib import Path

import pytest

from keras_en.training.recipes.tables import load_table

FOLDER = Path(__file__).parents[2] / "benchmarks" / "accuracy" / "grids"
SWEEPS = sorted([*FOLDER.glob("causes*.yaml"), FOLDER / "ablations.yaml"])
GRIDS = sorted(set(FOLDER.glob("*.yaml")) - set(SWEEPS))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_arms_of_a_row_differ_in_the_norm_alone(path):
    """But for what only ratios of sparse switchable normalization have, and for rates,
    which have been tuned for every norm alike."""
    table = load_table(str(path))
    rows = {}
    for run in table.runs:
        assert run.load().norm.name == run.column.lower().split(",")[0]
        own = ("norm.", "optimizer.ratio_", "optimizer.learning_rate=")
        others = [s for s in run.set if not s.startswith(own)]
        rows.setdefault(run.row, []).append((run.recipe, others))
    for arms in rows.values():
        assert len(arms) >= 3 and all(arm == arms[0] for arm in arms)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_changes_one_setting_at_a_time(path):
    base, *others = load_table(str(path)).runs
    for run in others:
        assert run.recipe == base.recipe and len(set(run.set) ^ set(base.set)) == 1
        assert run.load() != base.load()
