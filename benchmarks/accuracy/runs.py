"""What scripts share that look at the networks of a `keras-en reproduce` again."""

import argparse
import csv
import statistics
from pathlib import Path


def arguments(images):
    """The command's: `runs`, the folder, and `images`, so many unless it says other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--images", type=int, default=images)
    return parser.parse_args()


def classifiers(folder):
    """The rows of results.csv, one a network."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["metric"] == "top1"]


def text_of(values):
    """Mean and standard deviation."""
    text = f"{statistics.mean(values):.2f}"
    return f"{text} ± {statistics.stdev(values):.2f}" if len(values) > 1 else text
