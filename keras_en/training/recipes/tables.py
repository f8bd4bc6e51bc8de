"""Tables as grids: which recipe, with which keys changed, is which cell."""

import dataclasses
from pathlib import Path
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

    @property
    def arm(self) -> str:
        """What is compared: the column, or the end of the row."""
        return self.column or self.row[-1]

    @property
    def group(self) -> tuple[str, ...]:
        """What runs that are compared have in common."""
        return self.row if self.column else self.row[:-1]

    def load(self) -> Recipe:
        """Its recipe."""
        return load(self.recipe, self.set)

    def load_evaluated(self) -> Recipe | None:
        """The recipe that it is evaluated with, if that is another."""
        return None if self.evaluate is None else load(self.evaluate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Grid:
    note: str = key(rules.text(), "")
    columns: tuple[str, ...] = key(_TEXTS, ())
    compare: str | None = key(rules.optional(rules.text()), None)
    runs: Any = key(rules.Rule("a list of runs", _runs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File(_Grid):
    title: str = key(rules.text())
    small: Any = key(rules.mapping("keys of a grid"), {})


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper, or of one's own, at one scale.

    - `name`: "table5"; `title`: what it shows.
    - `scale`: "paper" or "small"; `None`: of a file that has one scale.
    - `note`: what its runs are instead of the paper's, if anything.
    - `columns`: names of columns, or of metrics.
    - `compare`: the column, or the end of a row, whose difference to the others is of
      interest; `None`: none.
    - `runs`: in the paper's order.

    >>> table = load_table("table5", "small")
    >>> run = table.runs[0]
    >>> run.row, run.column, run.load().network.arguments
    (('CIFAR-10', 'ResNet8'), 'BN', {'depth': 8})
    """

    name: str
    title: str
    scale: str | None
    note: str
    columns: tuple[str, ...]
    compare: str | None
    runs: tuple[Run, ...]


def table_names() -> list[str]:
    """Those of the paper's tables of results."""
    return sorted(path.stem for path in (FOLDER / "tables").glob("*.yaml"))


def load_table(name: str, scale: str = "paper") -> Table:
    """A table of the paper, or that of a file.

    Args:
        name: One of `table_names()`, or the path of a YAML file with the keys of those
            of the package; without the key `small` it has one scale.
        scale: "paper", or "small": what two CPU cores and the data at hand can do.

    Raises:
        ValueError: `name` or `scale` is unknown, or the file has a fault.
    """
    check(scale in SCALES, "scale", f"one of {SCALES}", scale)
    path = FOLDER / "tables" / f"{name}.yaml"
    if name not in table_names():
        path = Path(name)
        allowed = f"one of {table_names()}, or a .yaml file"
        check(path.suffix in (".yaml", ".yml"), "name", allowed, name)
    where = f"Table {name}"
    file = rules.read(_File, yaml_files.read(path, where), where)
    grid: _Grid = file
    if scale == "small" and file.small:
        grid = rules.read(_Grid, file.small, where, "small")
    columns = grid.columns or file.columns
    runs = tuple(
        rules.read(Run, values, where, f"runs.{i}")
        for i, values in enumerate(grid.runs)
    )
    for i, run in enumerate(runs):
        heads = [run.column] if run.column else list(run.paper)
        allowed = f"in columns out of {', '.join(columns)}"
        rules.require({*heads} <= {*columns}, where, f"runs.{i}", allowed, heads)
        cells = [(other.row, other.column) for other in runs[:i]]
        alone = (run.row, run.column) not in cells
        allowed = "of another row or column than those before it"
        title = ", ".join((*run.row, run.column or ""))
        rules.require(alone, where, f"runs.{i}", allowed, title)
        rules.require(run.row, where, f"runs.{i}.row", "texts, at least one", "[]")
        _check_recipes(run, where, f"runs.{i}")
    compare = grid.compare or file.compare
    arms = dict.fromkeys(run.arm for run in runs)
    valid = compare is None or compare in arms
    rules.require(valid, where, "compare", f"one of {', '.join(arms)}", compare)
    which = scale if file.small else None
    return Table(path.stem, file.title, which, grid.note, columns, compare, runs)


def _check_recipes(run, where, path):
    """Raises where a run has a recipe that cannot be read, or two evaluations."""
    for name, recipe in (("recipe", run.load), ("evaluate", run.load_evaluated)):
        try:
            recipe()
        except ValueError as error:
            raise ValueError(f"{where}: key `{path}.{name}`: {error}") from None
    single = run.evaluate is None or "miou_ms" not in run.paper
    allowed = "null beside a figure miou_ms, which has an evaluation of its own"
    rules.require(single, where, f"{path}.evaluate", allowed, run.evaluate)
