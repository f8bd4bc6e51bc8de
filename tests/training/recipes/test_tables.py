"""The paper's tables as grids."""

import itertools

import pytest

from keras_en.training.recipes import rules
from keras_en.training.recipes.recipe import names
from keras_en.training.recipes.tables import SCALES, Run, load_table, table_names


def figures(name, metric, rows):
    table = load_table(name)
    return [run.paper[metric] for run in table.runs if run.row[0] in rows]


def test_numbers_of_the_paper():
    """Rows of Tables 2 and 5, read in the paper."""
    assert figures("table2", "top1", ["ResNet50"]) == [
        *(77.6, 77.7, 76.4, 76.0, 76.9, 77.2, 78.1)
    ]
    assert figures("table2", "top5", ["ShuffleNet v2 x0.5"]) == [81.9, 82.9, 82.7, 83.3]
    expected = [67.87, 67.74, 68.78, 70.83, 70.70, 72.01, 72.41, 72.53, 73.32]
    assert figures("table5", "top1", ["CIFAR-100"]) == expected
    assert figures("table6", "miou_ms", ["ADE20K"]) == [37.7, 36.6, 38.4, 38.9]
    assert figures("table7", "top1", ["top-1"]) == [76.9, 77.1, 77.5, 77.8, 78.1, 78.0]


def test_all_tables_of_results_are_there():
    assert table_names() == [f"table{number}" for number in range(2, 10)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", table_names())
def test_every_run_has_a_recipe(name, scale):
    table = load_table(name, scale)
    assert table.title and bool(table.note) == (scale == "small" or name == "table6")
    cells = set()
    for run in table.runs:
        recipe = run.load()
        assert recipe.name.startswith("small_") == (scale == "small")
        assert scale == "small" or int(name[-1]) in recipe.about.tables
        assert run.evaluate is None or run.evaluate in names()
        if scale == "paper":
            # The last row or column is the paper's: what the header says.
            assert set(run.paper) == ({"top1"} if run.column else set(table.columns))
        cells.add((run.row, run.column))
    assert len(cells) == len(table.runs)


def test_the_header_of_a_recipe_is_its_figure_in_a_table():
    for name, scale in itertools.product(table_names(), ["paper"]):
        for run in load_table(name, scale).runs:
            recipe = run.load()
            usual = not run.set and run.evaluate is None
            if usual and run.column in (None, "EN"):
                for figure in run.paper.values():
                    assert f"{figure:g}" in recipe.about.paper, run


def test_wrong_names():
    with pytest.raises(ValueError, match="`name` must be one of .*'table2'"):
        load_table("table1")
    with pytest.raises(ValueError, match=r"`scale` must be one of \('paper', 'small'"):
        load_table("table5", "tiny")


@pytest.mark.parametrize("paper", [{"top2": 1.0}, {"top1": 101}, [76.4]])
def test_wrong_figures(paper):
    run = {"row": ["BN"], "recipe": "digits", "paper": paper}
    with pytest.raises(ValueError, match="`paper` must be a mapping from top1, top5"):
        rules.read(Run, run, "Table")


GRID = """
title: Rates
columns: [BN, EN]
compare: EN
runs:
  - {row: [rate 0.1], column: BN, recipe: digits, set: [norm.name=bn]}
  - {row: [rate 0.1], column: EN, recipe: digits}
"""


def test_a_grid_of_ones_own(tmp_path):
    """It has one scale."""
    path = tmp_path / "rates.yaml"
    path.write_text(GRID)
    table = load_table(str(path), "small")
    assert table.name == "rates" and table.compare == "EN" and len(table.runs) == 2
    assert load_table(str(path), "paper") == table and table.scale is None
    assert load_table("table5", "small").scale == "small"
    path.write_text(GRID.replace("column: BN", "column: EN"))
    with pytest.raises(ValueError, match="`runs.1` must be of another row or column"):
        load_table(str(path))
    path.write_text(GRID.replace("[rate 0.1]", "[]"))
    with pytest.raises(ValueError, match="`runs.0.row` must be texts, at least one"):
        load_table(str(path))
    path.write_text(GRID.replace("compare: EN", "compare: GN"))
    with pytest.raises(ValueError, match="key `compare` must be one of BN, EN"):
        load_table(str(path))
    with pytest.raises(ValueError, match="or a .yaml file"):
        load_table("table12")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "evaluate: small_cifar11",
            "`runs.0.evaluate`: .* nearest is small_cifar10",
        ),
        ("evaluate: absent.yaml", "`runs.0.evaluate`: .* No such file .*absent.yaml"),
        ("set: [norm.nme=bn]", "`runs.0.recipe`: .* the nearest is `norm.name`"),
        ("evaluate: digits, paper: {miou_ms: 50}", "`runs.0.evaluate` must be null"),
    ],
)
def test_recipes_of_runs_are_looked_at_first(tmp_path, line, message):
    path = tmp_path / "grid.yaml"
    run = f"{{row: [a], column: EN, recipe: digits, {line}}}"
    path.write_text(f"title: Rates\ncolumns: [EN]\nruns: [{run}]\n")
    with pytest.raises(ValueError, match=message) as error:
        load_table(str(path))
    assert "Received: " in str(error.value)
