"""The page about the training of `device.py`, from its numbers."""

import json
from pathlib import Path

import numpy as np
from gpu_tables import head

# Student's t, two-sided 95 %, by degrees of freedom.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
WAYS = {
    "single": "one network after the other",
    "dense": "all seeds in one program, dense convolutions",
}


def interval(differences):
    """Mean and half the width of its 95 % interval by Student's t; `None` of one."""
    differences = np.asarray(differences, float)
    count = len(differences)
    mean = float(differences.mean())
    if not 2 <= count <= len(T) + 1:
        return mean, None
    error = differences.std(ddof=1) / np.sqrt(count)
    return mean, float(T[count - 2] * error)


def finals(results, key="accuracy"):
    """`{arm: {seed: percent}}` of the last epoch."""
    return {
        arm: {seed: 100 * curve[-1][key] for seed, curve in seeds.items()}
        for arm, seeds in results["curves"].items()
    }


def _accuracy(results):
    last, by_batches = finals(results), finals(results, "by batches")
    seeds = list(next(iter(last.values())))
    lines = [
        "| norm | " + " | ".join(f"seed {s}" for s in seeds) + " | mean | deviation | "
        "by statistics of test batches |",
        "|---" * (len(seeds) + 4) + "|",
    ]
    for arm, values in last.items():
        numbers = list(values.values())
        deviation = np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0
        cells = [f"{n:.2f}" for n in numbers]
        cells += [f"**{np.mean(numbers):.2f}**", f"{deviation:.2f}"]
        cells.append(f"{np.mean(list(by_batches[arm].values())):.2f}")
        lines.append(f"| {arm.upper()} | {' | '.join(cells)} |")
    return lines


def _differences(results):
    last = finals(results)
    lines = [
        "| paired difference | mean | 95 % interval (Student's t) |",
        "|---|---|---|",
    ]
    for other in last:
        if "en" not in last or other == "en":
            continue
        pairs = [last["en"][s] - last[other][s] for s in last["en"] if s in last[other]]
        mean, half = interval(pairs)
        width = "" if half is None else f"{mean - half:+.2f} to {mean + half:+.2f}"
        lines.append(f"| EN - {other.upper()} | {mean:+.2f} | {width} |")
    return lines


def _search(results):
    """Accuracy on held-out images by learning rate."""
    if "search" not in results:
        return ["The rate is the recipe's for all: **none is tuned**.", ""]
    search = results["search"]
    count, held = search["images"]
    tried = list(next(iter(search["accuracy"].values())))
    lines = [
        f"- on {held:,} training images that are held out, {search['epochs']} epochs "
        f"of the other {count:,}, seed {search['seed']}",
        "- the best of every norm is what it is trained with, on all images",
        "",
        f"| rate | {' | '.join(tried)} |",
        "|---" * (len(tried) + 1) + "|",
    ]
    for arm, tops in search["accuracy"].items():
        best = max(tops.values())
        cells = [f"{100 * top:.2f}" for top in tops.values()]
        cells = [
            f"**{cell}**" if top == best else cell
            for cell, top in zip(cells, tops.values(), strict=True)
        ]
        lines.append(f"| {arm.upper()} | {' | '.join(cells)} |")
    return [*lines, ""]


def _curves(results):
    """Mean test accuracy over the epochs."""
    curves = results["curves"]
    epochs = [row["epoch"] for row in next(iter(next(iter(curves.values())).values()))]
    lines = [
        "| epoch | " + " | ".join(arm.upper() for arm in curves) + " |",
        "|---" * (len(curves) + 1) + "|",
    ]
    for i, epoch in enumerate(epochs):
        cells = [
            f"{100 * np.mean([c[i]['accuracy'] for c in seeds.values()]):.2f}"
            for seeds in curves.values()
        ]
        lines.append(f"| {epoch} | {' | '.join(cells)} |")
    return lines


def _ratios(results):
    seeds = results["curves"].get("en", {})
    rows = {}
    for curve in seeds.values():
        for path, shares in curve[-1]["ratios"].items():
            rows.setdefault(path, []).append(shares)
    if not rows:
        return []
    lines = [
        "Mean ratios of EN over the test images and the seeds, from the first layer:",
        "",
        "| layer | instance | layer | batch |",
        "|---|---|---|---|",
    ]
    for path, shares in rows.items():
        cells = [f"{share:.2f}" for share in np.mean(shares, axis=0)]
        lines.append(f"| {path.split('/')[-1]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _speed(results):
    lines = ["| norm | way | milliseconds a step of all seeds | compiling, s |"]
    lines.append("|---|---|---|---|")
    for arm, ways in results["milliseconds"].items():
        for way, value in ways.items():
            seconds = results["compiling"].get(f"{arm}, {way}", "")
            lines.append(f"| {arm.upper()} | {WAYS[way]} | {value:.2f} | {seconds} |")
    return lines


def page(results):
    """The lines of the page."""
    whole = results.get("finished", False)
    precision = "float32 with TF32 convolutions (JAX's default on a GPU)"
    if results["dtype"] != "float32":
        precision = f"mixed {results['dtype']}"
    return [
        "# ResNet-20 on CIFAR-10 on one GPU: BN, SN and EN",
        "",
        *head(results, "benchmarks/accuracy/device.py"),
        f"- precision: {precision}",
        f"- {results['epochs']} epochs in {results['seconds']:.0f} s with everything, "
        "as many as fit; the paper has 165. Rates fall at the same shares",
        "- all 50,000 training and 10,000 test images, compressed anew as JPEG (about "
        "30 dB): **results compare with each other only**, not with published ones",
        f"- recipe `{results['recipe']}`, which says everything else, "
        "but for the last batch of an epoch, which is left out where it is smaller",
        "- seeds: the same first weights of convolutions, order and augmentation in "
        "all arms",
        *([] if whole else ["", "**Not finished: out of time.**"]),
        "",
        "## Learning rate",
        "",
        *_search(results),
        "## Test accuracy of the last epoch, %",
        "",
        *_accuracy(results),
        "",
        *_differences(results),
        "",
        "## On the way",
        "",
        "Mean test accuracy over the seeds, %.",
        "",
        *_curves(results),
        "",
        *_ratios(results),
        "## Speed",
        "",
        *_speed(results),
        *[f"- {name}: {text[:200]}" for name, text in results["failures"].items()],
    ]


def write(numbers):
    """The page of the numbers in a file, beside it."""
    path = Path(numbers).with_suffix(".md")
    results = json.loads(Path(numbers).read_text(encoding="utf-8"))
    path.write_text("\n".join(page(results)) + "\n", encoding="utf-8")
    print(path)
