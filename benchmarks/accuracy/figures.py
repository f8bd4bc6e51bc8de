"""Figures of what EN gains, from the results that are kept.

    python benchmarks/accuracy/figures.py

Reads `results.csv` of every folder of benchmarks/results/accuracy, and the runs on a
GPU beside it. Writes, into docs/explanation/gains, differences.png: what EN is above
every other norm, a point a seed, and the 95 % interval of the mean; and batch.png:
accuracy by the batch of the training.
"""

import csv
import json
import re
import statistics
from pathlib import Path

import matplotlib.figure

from keras_en.training.comparison import Difference

HOME = Path(__file__).resolve().parents[2]
RESULTS = HOME / "benchmarks" / "results" / "accuracy"
FIGURES = HOME / "docs" / "explanation" / "gains"
TITLES = {
    "digits": "",
    "cifar10": "CIFAR-10, 10,000 images",
    "batch": "CIFAR-10, 10,000 images",
    "noise": "CIFAR-10, 10,000 noisy labels",
}


def figures_of(folder):
    """`{row: {norm: {seed: percent}}}`."""
    result = {}
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["metric"] == "top1":
                arms = result.setdefault(line["row"], {})
                values = arms.setdefault(line["column"], {})
                values[int(line["seed"])] = float(line["value"])
    return result


def on_a_gpu():
    """`{row: {norm: {seed: percent}}}`."""
    result = {}
    for name in ("gpu_accuracy", "gpu_accuracy_tuned"):
        text = (RESULTS.parent / f"{name}.json").read_text(encoding="utf-8")
        numbers = json.loads(text)
        arms = result[f"ResNet20, {numbers['epochs']} epochs"] = {}
        for norm, curves in numbers["curves"].items():
            last = {int(s): 100 * curve[-1]["accuracy"] for s, curve in curves.items()}
            arms[norm.upper()] = last
    return result


def differences(title, rows):
    """Of EN and every other norm, on the seeds that both have."""
    for row, arms in rows.items():
        own = arms.pop("EN", {})
        for other, values in arms.items():
            seeds = sorted(own.keys() & values.keys())
            if len(seeds) > 1:
                gains = tuple(own[seed] - values[seed] for seed in seeds)
                group = tuple(filter(None, (title, row)))
                yield Difference(group, "top1", "EN", other, gains)


def draw_differences(path):
    every = list(differences("CIFAR-10", on_a_gpu()))
    for name, title in TITLES.items():
        if (RESULTS / name).is_dir():
            every += differences(title, figures_of(RESULTS / name))
    figure = matplotlib.figure.Figure((8, 1 + 0.32 * len(every)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="black", linewidth=0.8)
    for i, each in enumerate(every):
        low, high = each.interval()
        mean = statistics.mean(each.values)
        axis.plot([low, high], [i, i], color="C0", linewidth=3, alpha=0.4)
        axis.plot(each.values, [i] * len(each.values), "o", color="C0", markersize=3)
        axis.plot([mean], [i], "|", color="black", markersize=12)
    labels = [
        f"{', '.join(each.group)}: EN - {each.other}, n={len(each.values)}"
        for each in every
    ]
    axis.set_yticks(range(len(every)), labels, fontsize=8)
    axis.set(xlabel="points of top-1 accuracy that EN is above; 95 % intervals")
    # Of two seeds an interval may be wider than all that is to be seen.
    seeds = [value for each in every for value in each.values]
    axis.set_xlim(min(seeds) - 2, max(seeds) + 2)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def draw_batches(path):
    arms = {}
    for row, norms in figures_of(RESULTS / "batch").items():
        batch = int(re.search(r"\d+", row)[0])
        for norm, values in norms.items():
            arms.setdefault(norm, {})[batch] = list(values.values())
    figure = matplotlib.figure.Figure((6, 4), layout="constrained")
    axis = figure.subplots()
    for i, (norm, by_batch) in enumerate(arms.items()):
        batches = sorted(by_batch)
        for batch in batches:
            values = by_batch[batch]
            axis.plot([batch] * len(values), values, "o", color=f"C{i}", markersize=4)
        means = [statistics.mean(by_batch[batch]) for batch in batches]
        axis.plot(batches, means, color=f"C{i}", label=norm)
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.set(xlabel="images of a batch", ylabel="top-1 accuracy, %")
    axis.set_title("ResNet-8, 10,000 images of CIFAR-10, 10 epochs", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=120)


def main():
    draw_differences(FIGURES / "differences.png")
    if (RESULTS / "batch").is_dir():
        draw_batches(FIGURES / "batch.png")


if __name__ == "__main__":
    main()
