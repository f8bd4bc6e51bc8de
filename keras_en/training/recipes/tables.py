"""The paper's tables as grids: which recipe, with which keys changed, is which cell."""

import dataclasses
from typing import Any

from keras_en.arguments import check
from keras_en.training.recipes import rules, yaml_files
from keras_en.training.recipes.recipe import FOLDER, Recipe, load
from keras_en.training.recipes.rules import key

SCALES = ("paper", "small")
METRICS = ("top1", "top5", "miou_ss", "miou_ms")
_TEXTS = rules.listed(rules.text(), "texts")


def _figures(value):
    if not isinstance(value, dict) or not set(value) <= set(METRICS):
        raise rules.Wrong
    return {name: rules.number(0, 100).of(figure) for name, figure in value.items()}


def _runs(value):
    if not isinstance(value, list) or not value:
        raise rules.Wrong
    return tuple(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A training, and where its results stand.

    - `row`: what begins its row; `column`: the one of its figure, or `None` where each
      metric has a column.
    - `recipe`, `set`: arguments of `load`.
    - `evaluate`: the recipe whose data it is tested on; `None`: its own.
    - `paper`: the paper's figures, in %, by metric; of another training at scale
      "small".
    """

    row: tuple[str, ...] = key(_TEXTS)
    column: str | None = key(rules.optional(rules.text()), None)
    recipe: str = key(rules.text())
    set: tuple[str, ...] = key(_TEXTS, ())
    evaluate: str | None = key(rules.optional(rules.text()), None)
    paper: dict[str, float] = key(
        rules.Rule(f"a mapping from {', '.join(METRICS)} to figures in %", _figures), {}
    )

    def load(self) -> Recipe:
        """Its recipe."""
        return load(self.recipe, self.set)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Grid:
    note: str = key(rules.text(), "")
    columns: tuple[str, ...] = key(_TEXTS, ())
    runs: Any = key(rules.Rule("a list of runs", _runs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    title: str = key(rules.text())
    columns: tuple[str, ...] = key(_TEXTS)
    runs: Any = key(rules.Rule("a list of runs", _runs))
    small: _Grid = rules.part(_Grid, required=True)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper.

    - `name`: "table5"; `title`: what it shows.
    - `note`: what its runs are instead of the paper's; empty at scale "paper".
    - `columns`: names of columns, or of metrics.
    - `runs`: in the paper's order.

    >>> table = load_table("table5", "small")
    >>> run = table.runs[0]
    >>> run.row, run.column, run.load().network.arguments
    (('CIFAR-10', 'ResNet8'), 'BN', {'depth': 8})
    """

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    runs: tuple[Run, ...]


def table_names() -> list[str]:
    """Those of the paper's tables of results."""
    return sorted(path.stem for path in (FOLDER / "tables").glob("*.yaml"))


def load_table(name: str, scale: str = "paper") -> Table:
    """A table of the paper.

    Args:
        name: One of `table_names()`.
        scale: "paper", or "small": what two CPU cores and the data at hand can do.

    Raises:
        ValueError: `name` or `scale` is unknown.
    """
    check(name in table_names(), "name", f"one of {table_names()}", name)
    check(scale in SCALES, "scale", f"one of {SCALES}", scale)
    where = f"Table {name}"
    file = rules.read(
        _File, yaml_files.read(FOLDER / "tables" / f"{name}.yaml", where), where
    )
    grid = file.small if scale == "small" else file
    columns = grid.columns or file.columns
    runs = tuple(
        rules.read(Run, values, where, f"runs.{i}")
        for i, values in enumerate(grid.runs)
    )
    for i, run in enumerate(runs):
        heads = [run.column] if run.column else list(run.paper)
        allowed = f"in columns out of {', '.join(columns)}"
        rules.require({*heads} <= {*columns}, where, f"runs.{i}", allowed, heads)
    note = file.small.note if scale == "small" else ""
    return Table(name, file.title, note, columns, runs)
