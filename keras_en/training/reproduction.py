"""A table of the paper: its runs, what they gave, and the table itself."""

import csv
import io
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_en.arguments import fault
from keras_en.training import best, run_folder
from keras_en.training.recipes.recipe import Recipe, load
from keras_en.training.recipes.tables import Run, Table

# Of the metrics of tables those of `Scores`.
SCORES = {"top1": "top1", "top5": "top5", "miou_ss": "miou", "miou_ms": "miou"}


# Of a run that does not say what it was trained on.
_UNKNOWN = {
    "processor": "unknown processor",
    "cpu_count": "unknown",
    "devices": ["unknown devices"],
}


class Training(NamedTuple):
    """A run of a table with a seed.

    - `folder`: where it is trained; its reports stand beside it.
    """

    run: Run
    recipe: Recipe
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        """Row, column and seed, for people."""
        parts = (*self.run.row, self.run.column, f"seed {self.seed}")
        return ", ".join(part for part in parts if part)

    @property
    def evaluations(self) -> dict[Path, list[str]]:
        """Reports that are not of the training, and options of `keras-en evaluate`."""
        options = {}
        if self.run.evaluate is not None:
            options[self.run.evaluate] = ["--recipe", self.run.evaluate]
        if "miou_ms" in self.run.paper:
            options["scales"] = ["--scales", "recipe"]
        start = self.folder.name
        return {
            self.folder.with_name(f"{start}-{_folder_name([name])}.json"): words
            for name, words in options.items()
        }

    @property
    def is_finished(self) -> bool:
        """Whether all that it is to give is there."""
        return run_folder.metrics(self.folder / run_folder.FACTS) is not None

    def figures(self) -> dict[str, float]:
        """In %, by metric of the table; empty where it is not finished."""
        own = run_folder.metrics(self.folder / run_folder.FACTS)
        if own is None:
            return {}
        metrics = self.run.paper or dict.fromkeys(
            ["miou_ss"] if "miou" in own else ["top1"]
        )
        others = {p: run_folder.metrics(p) for p in self.evaluations}
        result = {}
        for metric in metrics:
            source: dict[str, float] | None = own
            if others and (metric == "miou_ms" or self.run.evaluate):
                (source,) = others.values()
            if source and SCORES[metric] in source:
                result[metric] = 100 * source[SCORES[metric]]
        return result


def trainings(
    table: Table,
    output: Path,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    epochs: int | None = None,
) -> list[Training]:
    """All of a table, seed by seed: whenever it is stopped, rows are about even.

    Args:
        table: See `tables.load_table`.
        output: Folder.
        seeds: `None`: those of each recipe.
        only: Texts: runs whose row or column has one of them.
        overrides: Changes of keys of all recipes.
        epochs: `None`: those of the recipes.

    Raises:
        ValueError: No run is chosen, or an override is wrong.
    """
    result = []
    for run in table.runs:
        text = _row_and_column(run)
        if only and not any(part.lower() in text.lower() for part in only):
            continue
        recipe = load(run.recipe, (*run.set, *overrides))
        if epochs is not None:
            recipe = recipe.lasting(epochs)
        name = _folder_name((run.recipe, *run.set))
        for seed in recipe.seeds if seeds is None else seeds:
            folder = output / name / f"seed{seed}"
            result.append(Training(run, recipe, seed, folder))
    if not result:
        rows = dict.fromkeys(map(_row_and_column, table.runs))
        what = f"be part of a row or column: {'; '.join(rows)}"
        raise fault("--only", what, ", ".join(only))
    result.sort(key=lambda training: training.seed)
    return result


def seeds_in(output: Path) -> list[int]:
    """Those of all runs in a folder, whoever asked for them."""
    names = {path.name.removeprefix("seed") for path in output.glob("*/seed*")}
    return sorted(int(name) for name in names if name.isdecimal())


def origin(results: Iterable[Training]) -> list[str]:
    """On what, and with which versions, what is finished was trained; lines."""
    lines: dict[str, set[int]] = {}
    for training in results:
        if not training.is_finished:
            continue
        facts = run_folder.facts(training.folder)
        hardware = {**_UNKNOWN, **facts.get("hardware", {})}
        place = f"{hardware['processor']}, {hardware['cpu_count']} cores"
        parts = [place, *sorted(set(hardware["devices"]))]
        # Runs of older versions do not say it.
        parts += [facts["dtype_policy"]] if "dtype_policy" in facts else []
        versions = facts.get("versions") or {"versions": "unknown"}
        names = ", ".join(f"{name} {version}" for name, version in versions.items())
        line = f"{', '.join(parts)}; {names}"
        lines.setdefault(line, set()).add(training.seed)
    return [
        f"Seeds {', '.join(map(str, sorted(seeds)))}: {line}."
        for line, seeds in lines.items()
    ]


def markdown(table: Table, results: Iterable[Training]) -> str:
    """The table in the paper's layout, its figures in brackets beside ours."""
    cells: dict[tuple, list[float]] = {}
    paper: dict[tuple, float] = {}
    for training in results:
        run = training.run
        for metric, value in training.figures().items():
            cells.setdefault((run.row, run.column or metric), []).append(value)
        for metric, value in run.paper.items():
            paper[run.row, run.column or metric] = value
    rows = dict.fromkeys(run.row for run in table.runs)
    used = {column for _, column in (*cells, *paper)}
    columns = [column for column in table.columns if column in used]
    lines = [f"| {table.title} | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for row in rows:
        texts = [_cell(cells.get((row, c)), paper.get((row, c))) for c in columns]
        if any(texts):
            lines.append(f"| {', '.join(row)} | {' | '.join(texts)} |")
    ours = "Ours: mean ± standard deviation, number of seeds; in brackets the paper's"
    lines += ["", f"{ours} figure."]
    if table.note:
        lines += ["", f"Not the paper's: {table.note}."]
    return "\n".join(lines) + "\n"


def _row_and_column(run):
    return ", ".join((*run.row, run.column or ""))


def _cell(values, paper):
    text = ""
    if values:
        text = f"{statistics.mean(values):.2f}"
        if len(values) > 1:
            text += f" ± {statistics.stdev(values):.2f}"
        text += f", n={len(values)}"
    return f"{text} ({paper:g})".strip() if paper is not None else text


def as_csv(results: Iterable[Training], scale: str | None) -> str:
    """A line for each figure of each training."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["scale", "row", "column", "metric", "seed", "value", "paper", "folder"]
    writer.writerow(head)
    for training in results:
        run = training.run
        for metric, value in training.figures().items():
            start = [scale or "", ", ".join(run.row), run.column or "", metric]
            paper = run.paper.get(metric, "")
            place = [training.seed, round(value, 6), paper, training.folder]
            writer.writerow([*start, *place])
    return text.getvalue()


def plot_curves(results: Sequence[Training], path: Path, title: str) -> bool:
    """Draws the validation metric by epoch, a panel a group of runs that are compared,
    a colour an arm, one line per seed; returns whether there was anything to draw."""
    panels: dict[Any, dict[str, list]] = {}
    for training in results:
        curve = _curve(training.folder / run_folder.HISTORY)
        if curve:
            run = training.run
            panels.setdefault(run.group, {}).setdefault(run.arm, []).append(curve)
    if not panels:
        return False
    figure, axes = figure_of(len(panels), title)
    for axis, (group, curves) in zip(axes, panels.items(), strict=True):
        for i, (label, lines) in enumerate(curves.items()):
            for line in lines:
                epochs = range(1, len(line) + 1)
                axis.plot(epochs, line, color=f"C{i}", alpha=0.35, linewidth=0.8)
            mean = [statistics.mean(v) for v in zip(*lines, strict=False)]
            text = f"{label}, n={len(lines)}"
            axis.plot(range(1, len(mean) + 1), mean, color=f"C{i}", label=text)
        axis.set(xlabel="epoch", ylabel="evaluated, %")
        axis.set_title(", ".join(group), fontsize=9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return True


def figure_of(panels: int, title: str) -> tuple[Any, list]:
    """A figure and the axes of so many panels, at most three in a row."""
    import matplotlib.figure

    width = min(3, panels)
    height = -(-panels // width)
    figure = matplotlib.figure.Figure((5 * width, 3.6 * height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = list(figure.subplots(height, width, squeeze=False).ravel())
    for axis in axes[panels:]:
        axis.remove()
    return figure, axes[:panels]


def _curve(path):
    """The validation metric of each epoch, in %; none of a file that is not there or
    cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        name = next((name for name in best.METRICS if rows and name in rows[0]), None)
        return [100 * float(row[name]) for row in rows] if name else []
    except (OSError, ValueError, TypeError, csv.Error):
        return []


def _folder_name(words):
    return "-".join(re.sub(r"[^\w.=]+", "_", word) for word in words)
