"""A user's road: a network trained with BN is trained on as it is, or with EN in BN's
place, with the same budget and seeds.

    KERAS_EN_DATA=... python benchmarks/accuracy/road.py [--seeds 5] [--epochs 30]
        [--more 10] [--output runs/road]

Every training is `keras-en train`; what is finished is skipped, what was interrupted
goes on. Writes results.csv and results.md: test accuracy of the BN network and of both
ways on, with the moving statistics of the training and with recalibrated ones, and what
EN is above BN, paired.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import keras

from keras_en import recalibrate
from keras_en.training import comparison
from keras_en.training.evaluation import evaluate
from keras_en.training.material import material
from keras_en.training.recipes.recipe import load

SETTINGS = ["--set", "network.arguments.depth=8"]
# The best rate of grids/rates.yaml, then a tenth of it, falling as it did.
FIRST, ON = (["--set", f"optimizer.learning_rate={rate}"] for rate in (0.3, 0.03))
BEFORE, AFTER = "before", "trained on"
RECALIBRATED = f"{AFTER}, recalibrated"


def train(folder, *words):
    """Its test accuracy, %."""
    facts = folder / "run.json"
    if not facts.is_file() or "metrics" not in json.loads(facts.read_text("utf-8")):
        command = [sys.executable, "-m", "keras_en.cli", "train", "small_cifar10"]
        options = ["--output", folder, "--resume"]
        subprocess.run([*command, *map(str, [*words, *options])], check=True)
    top1 = 100 * json.loads(facts.read_text("utf-8"))["metrics"]["top1"]
    print(f"{folder}: {top1:.2f} %", flush=True)
    return top1


def recalibrated(folder):
    """Test accuracy with the exact statistics of an epoch of training images, %."""
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    seed = json.loads((folder / "run.json").read_text("utf-8"))["seed"]
    images = material(load(folder / "recipe.yaml"), seed)
    recalibrate(model, images.train(0))
    top1 = 100 * evaluate(model, images).metrics["top1"]
    print(f"{folder}, recalibrated: {top1:.2f} %", flush=True)
    return top1


def roads(options):
    """`{(row, norm): {seed: percent}}`."""
    results = {}
    for seed in range(options.seeds):
        # Of other epochs they are other runs.
        output = options.output / f"{options.epochs}-{options.more}" / f"seed{seed}"
        words = [*SETTINGS, "--seed", seed]
        first = [*FIRST, "--norm", "bn", "--epochs", options.epochs]
        values = {(BEFORE, "BN"): train(output / "bn", *words, *first)}
        start = [*words, *ON, "--epochs", options.more]
        start += ["--from", output / "bn" / "model.keras"]
        for norm in ("bn", "en"):
            folder, arm = output / f"{norm}-on", norm.upper()
            values[AFTER, arm] = train(folder, *start, "--norm", norm)
            values[RECALIBRATED, arm] = recalibrated(folder)
        for place, value in values.items():
            results.setdefault(place, {})[seed] = value
        write(options, results)


def write(options, results):
    with (options.output / "results.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["row", "column", "metric", "seed", "value"])
        for (row, arm), values in results.items():
            for seed, value in values.items():
                writer.writerow([row, arm, "top1", seed, f"{value:.6g}"])
    lines = [
        "# A network trained with BN, trained on with BN or with EN in its place",
        "",
        "ResNet-8, 10,000 training images of CIFAR-10, compressed anew as JPEG; "
        f"{options.epochs} epochs, then {options.more}.",
        "",
        "| | norm | test accuracy, % | seeds |",
        "|---|---|---|---|",
    ]
    for (row, arm), values in results.items():
        numbers = list(values.values())
        deviation = statistics.stdev(numbers) if len(numbers) > 1 else 0
        mean = statistics.mean(numbers)
        lines.append(
            f"| {row} | {arm} | {mean:.2f} ± {deviation:.2f} | {len(numbers)} |"
        )
    pairs = []
    for row in (AFTER, RECALIBRATED):
        own, other = results[row, "EN"], results[row, "BN"]
        gains = tuple(own[seed] - other[seed] for seed in own)
        pairs.append(comparison.Difference((row,), "top1", "EN", "BN", gains))
    text = "\n".join([*lines, "", comparison.markdown(pairs)])
    (options.output / "results.md").write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--more", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("runs", "road"))
    options = parser.parse_args()
    roads(options)
    print((options.output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
