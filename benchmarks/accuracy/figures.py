"""What EN gains, in figures and one table, from the results that are kept.

    python benchmarks/accuracy/figures.py

Reads `results.csv` of every folder of benchmarks/results/accuracy, and the runs on a
GPU beside it. Writes there differences.md: what EN is above every other norm, with the
95 % interval and how often chance alone would bring as much. And, into
docs/explanation/gains, differences.png: EN against BN and SN, one point per seed;
settings.png: EN with one setting changed against EN as it is, likewise; and batch.png:
accuracy by the batch of the training.
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
# Settings of EN, one changed at a time.
AS_IT_IS = "as it is"
SWEEPS = {
    "ablations": "ResNet-8, 30 epochs, test images",
    "causes": "ResNet-20, 10 epochs, held-out images",
    "causes_batch": "ResNet-8, 10 epochs, batch 4, held-out images",
}


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


def paired(row, own, other, arms):
    """The difference of two arms on the seeds that both have."""
    first, second = arms.get(own, {}), arms.get(other, {})
    seeds = sorted(first.keys() & second.keys())
    return Difference(
        (row,), "", own, other, tuple(first[seed] - second[seed] for seed in seeds)
    )


def differences():
    """Of EN and every other norm, where there are two seeds at least."""
    for row, name, arms in experiments():
        every = [paired(row, name, other, arms) for other in arms if other != name]
        yield from (each for each in every if len(each.values) > 1)


def changes():
    """`{sweep: [difference of each setting and EN as it is]}`."""
    return {
        title: [
            paired(title, setting, AS_IT_IS, arms)
            for arms in figures_of(RESULTS / folder).values()
            for setting in arms
            if setting != AS_IT_IS
        ]
        for folder, title in SWEEPS.items()
    }


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


def draw(axis, i, difference):
    """A line of a figure: every seed, their mean, and a bar, the 95 % interval."""
    values = difference.values
    if interval := difference.interval():
        low, high = interval
        axis.barh(i, high - low, 0.4, low, color="C1", alpha=0.4)
    axis.plot(values, [i] * len(values), ".", color="C0")
    axis.plot([statistics.mean(values)], [i], "|k", markersize=14)


def draw_differences(path, every):
    rows = list(dict.fromkeys(each.group[0] for each in every))
    figure = matplotlib.figure.Figure((10, 1 + 0.32 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for (name, others), axis in zip(PANELS.items(), panels, strict=True):
        axis.axvline(0, color="black", linewidth=0.8)
        for each in every:
            if each.other == others[each.arm != "EN"]:
                draw(axis, rows.index(each.group[0]), each)
        axis.set(title=f"EN - {name}", xlabel="points", xlim=(-9, 9))
        axis.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), rows, fontsize=8)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def draw_changes(path, sweeps):
    heights = [len(every) + 2 for every in sweeps.values()]
    figure = matplotlib.figure.Figure((8, 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(sweeps), 1, sharex=True, height_ratios=heights)
    for (title, every), axis in zip(sweeps.items(), panels, strict=True):
        axis.axvline(0, color="black", linewidth=0.8)
        for i, each in enumerate(every):
            draw(axis, i, each)
        axis.set_yticks(range(len(every)), [each.arm for each in every], fontsize=8)
        axis.invert_yaxis()
        axis.set_title(f"{title}: EN less EN as it is", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    panels[-1].set(xlabel="points", xlim=(-9, 9))
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
    draw_changes(FIGURES / "settings.png", changes())
    draw_batches(FIGURES / "batch.png")


if __name__ == "__main__":
    main()
