"""What an arm of a table gains over the others, on the seeds that both have."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_en.training.recipes.tables import Table
from keras_en.training.reproduction import Training, figure_of

LEVEL = 0.95


class Difference(NamedTuple):
    """Percentage points that an arm is above another.

    - `group`: what both have in common; `metric`: of which.
    - `arm`, `other`: their names.
    - `values`: one for each seed that both have.

    >>> Difference(("CIFAR-10",), "top1", "EN", "BN", (1.0, 2.0, 3.0)).interval()
    (-0.48, 4.48)
    """

    group: tuple[str, ...]
    metric: str
    arm: str
    other: str
    values: tuple[float, ...]

    def interval(self) -> tuple[float, float] | None:
        """That of the mean, 95 %, by Student's t; `None` of one seed."""
        if len(self.values) < 2:
            return None
        from scipy import stats

        error = statistics.stdev(self.values) / len(self.values) ** 0.5
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(self.values) - 1)) * error
        mean = statistics.mean(self.values)
        return round(mean - half, 2), round(mean + half, 2)


def differences(table: Table, trainings: Iterable[Training]) -> list[Difference]:
    """Of `table.compare` and every other arm of its group, by metric; empty where the
    table compares nothing."""
    result = []
    for (group, metric), arms in _by_arm(trainings).items():
        own = arms.get(table.compare or "", {})
        for other, values in arms.items():
            seeds = [seed for seed in own if seed in values]
            if seeds and other != table.compare:
                gains = tuple(own[seed] - values[seed] for seed in seeds)
                name = str(table.compare)
                result.append(Difference(group, metric, name, other, gains))
    return result


def markdown(pairs: Sequence[Difference]) -> str:
    """A table of them, with what it says in words."""
    lines = ["| paired difference | metric | mean | 95 % interval | seeds |"]
    lines.append("|---" * 5 + "|")
    for each in pairs:
        interval = each.interval()
        text = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else ""
        name = ", ".join([*each.group, f"{each.arm} - {each.other}"])
        mean = statistics.mean(each.values)
        lines.append(
            f"| {name} | {each.metric} | {mean:+.2f} | {text} | {len(each.values)} |"
        )
    lines += ["", "Percentage points, on the same seeds; intervals by Student's t."]
    return "\n".join(lines) + "\n"


def plot_points(trainings: Iterable[Training], path: Path, title: str) -> bool:
    """Draws every seed as a point, a panel a group and metric, a line through those of
    a seed, the mean as a bar; returns whether there was anything to draw."""
    panels = _by_arm(trainings)
    if not panels:
        return False
    figure, axes = figure_of(len(panels), title)
    for axis, ((group, metric), arms) in zip(axes, panels.items(), strict=True):
        for seed in dict.fromkeys(seed for values in arms.values() for seed in values):
            line = [
                (i, values[seed])
                for i, values in enumerate(arms.values())
                if seed in values
            ]
            x, y = zip(*line, strict=True)
            axis.plot(x, y, "o-", color="C0", alpha=0.5, linewidth=0.5, markersize=4)
        for i, values in enumerate(arms.values()):
            mean = statistics.mean(values.values())
            axis.plot([i - 0.25, i + 0.25], [mean, mean], color="black", linewidth=2)
        labels = [f"{arm}\nn={len(values)}" for arm, values in arms.items()]
        axis.set_xticks(range(len(arms)), labels, fontsize=8)
        axis.set_title(", ".join([*group, metric]), fontsize=9)
        axis.set(ylabel="%")
        axis.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=120)
    return True


def _by_arm(trainings):
    """`{(group, metric): {arm: {seed: percent}}}` of what is finished."""
    result: dict[Any, dict[str, dict[int, float]]] = {}
    for training in trainings:
        run = training.run
        for metric, value in training.figures().items():
            arms = result.setdefault((run.group, metric), {})
            arms.setdefault(run.arm, {})[training.seed] = value
    return result
