"""What EN gains, in figures and one table, from the results that are kept.

    python benchmarks/accuracy/figures.py

Reads `results.csv` of every folder of benchmarks/results/accuracy, and the runs on a
GPU beside it. Writes there differences.md: what EN is above every other norm, with the
95 % interval and how often chance alone would bring as much. And, into
docs/explanation/gains, differences.png: EN against BN and SN, one point per seed; and
batch.png: accuracy by the batch of the training.
"""

import csv
import json
import re
import statistics
from pathlib import Path

import matplotlib.figure
from scipy import stats

from keras_en.training.comparison import Difference

HOME = Path(__file__).resolve().parents[2]
RESULTS = HOME / "benchmarks" / "results" / "accuracy"
FIGURES = HOME / "docs" / "explanation" / "gains"
SMALL = "CIFAR-10, 10,000 images"
TITLES = {
    "digits": "digits, ResNet-8, 30 epochs",
    "cifar10": {
        "ResNet8": f"{SMALL}, ResNet-8, 30 epochs",
        "ResNet20": f"{SMALL}, ResNet-20, 10 epochs",
    },
    "table5-small": {
        "CIFAR-10, ResNet8": f"{SMALL}, ResNet-8, 30 epochs, rate 0.1",
        "CIFAR-10, ResNet20": f"{SMALL}, ResNet-20, 10 epochs, rate 0.1",
    },
    "batch": f"{SMALL}, ResNet-8, 10 epochs, {{row}}",
    "noise": f"{SMALL}, ResNet-8, 30 epochs, noisy labels",
    "road": "a trained BN network, {row}",
    "camvid": "CamVid, mIoU, batch 2, 6 epochs",
    "start": {
        "digits, ResNet8": "digits, ResNet-8, from batch 0.9",
        "ResNet8": f"{SMALL}, ResNet-8, 30 epochs, from batch 0.9",
        "ResNet20": f"{SMALL}, ResNet-20, 10 epochs, from batch 0.9",
        "batch 4": f"{SMALL}, ResNet-8, 10 epochs, batch 4, from batch 0.9",
        "batch 2": f"{SMALL}, ResNet-8, 10 epochs, batch 2, from batch 0.9",
        "CamVid": "CamVid, mIoU, batch 2, 6 epochs, from batch 0.9",
    },
}
# What is compared with the others: of one grid EN that starts close to BN.
OWN = {"start": "EN, batch 0.9"}
# What a panel of the figure shows: beside EN, and beside EN that starts close to BN.
PANELS = {"BN": ("BN", "BN"), "SN": ("SN", "SN, batch 0.9")}


def figures_of(folder):
    """`{row: {norm: {seed: percent}}}`."""
    result = {}
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["metric"] in ("top1", "miou_ss"):
                arms = result.setdefault(line["row"], {})
                values = arms.setdefault(line["column"], {})
                values[int(line["seed"])] = float(line["value"])
    return result


def on_a_gpu():
    """`(row, {norm: {seed: percent}})` of each run."""
    for name in ("gpu_accuracy_tuned", "gpu_accuracy"):
        text = (RESULTS.parent / f"{name}.json").read_text(encoding="utf-8")
        numbers = json.loads(text)
        rate = "" if numbers.get("search") else ", rate 0.1"
        row = f"CIFAR-10, ResNet-20, {numbers['epochs']} epochs{rate}"
        arms = {}
        for norm, curves in numbers["curves"].items():
            last = {int(s): 100 * curve[-1]["accuracy"] for s, curve in curves.items()}
            arms[norm.upper()] = last
        yield row, arms


def experiments():
    """`(row, own norm, {norm: {seed: percent}})` of each."""
    for row, arms in on_a_gpu():
        yield row, "EN", arms
    for name, titles in TITLES.items():
        for row, arms in figures_of(RESULTS / name).items():
            title = titles[row] if isinstance(titles, dict) else titles
            yield title.format(row=row), OWN.get(name, "EN"), arms


def differences():
    """Of EN and every other norm, on the seeds that both have."""
    for row, name, arms in experiments():
        own = arms.get(name, {})
        for other, values in arms.items():
            seeds = sorted(own.keys() & values.keys())
            if other != name and len(seeds) > 1:
                gains = tuple(own[seed] - values[seed] for seed in seeds)
                yield Difference((row,), "", name, other, gains)


def write(path, every):
    lines = [
        "# What EN is above other norms, on the same seeds",
        "",
        "- command: `python benchmarks/accuracy/figures.py`, of the results beside it",
        "- percentage points; intervals and p by Student's t of paired differences",
        f"- these are {len(every)} looks: of so many, chance alone brings "
        f"{len(every) / 20:.1f} with p below 0.05. In the last column p times their "
        "number (Bonferroni): what stays below 0.05 holds for all looks together",
        "- an interval is of seeds alone: one set of training and of test images each",
        "",
        "| | mean | 95 % interval | seeds | p | of all looks |",
        "|---|---|---|---|---|---|",
    ]
    for each in every:
        (title,), (low, high) = each.group, each.interval()
        mean = statistics.mean(each.values)
        chance = float(stats.ttest_1samp(each.values, 0).pvalue)
        lines.append(
            f"| {title}: {each.arm} - {each.other} | {mean:+.2f} "
            f"| {low:+.2f} to {high:+.2f} | {len(each.values)} | {chance:.2g} "
            f"| {min(1, chance * len(every)):.2g} |"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_differences(path, every):
    rows = list(dict.fromkeys(each.group[0] for each in every))
    figure = matplotlib.figure.Figure((10, 1 + 0.32 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for (name, others), axis in zip(PANELS.items(), panels, strict=True):
        axis.axvline(0, color="black", linewidth=0.8)
        for each in every:
            if each.other == others[each.arm != "EN"]:
                i = rows.index(each.group[0])
                low, high = each.interval()
                axis.barh(i, high - low, 0.4, low, color="C1", alpha=0.4)
                axis.plot(each.values, [i] * len(each.values), ".", color="C0")
                axis.plot([statistics.mean(each.values)], [i], "|k", markersize=14)
        axis.set(title=f"EN - {name}", xlabel="points", xlim=(-9, 9))
        axis.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), rows, fontsize=8)
    panels[0].invert_yaxis()
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
    axis.legend(loc="center")
    figure.savefig(path, dpi=120)


def main():
    every = list(differences())
    write(RESULTS / "differences.md", every)
    draw_differences(FIGURES / "differences.png", every)
    draw_batches(FIGURES / "batch.png")


if __name__ == "__main__":
    main()
