"""Published accuracies are those of the runs that are kept."""

import csv
import json
import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

HOME = Path(__file__).parents[2]
RESULTS = HOME / "benchmarks" / "results"
PAGES = (
    "README.md",
    "docs/explanation/gains.md",
    "benchmarks/results/accuracy.md",
    "benchmarks/results/gpu_accuracy.md",
    "benchmarks/results/gpu_accuracy_tuned.md",
)
# Folders of tables with the runs that they are of.
TABLES = sorted({p.parents[2] for p in RESULTS.glob("accuracy/*/*/seed*/run.json")})
# Both ways to round what is amid two texts.
TIES = (-1e-9, 1e-9)


@pytest.fixture(scope="module")
def seeds():
    """`{(table, row, metric): {arm: {seed: percent}}}`."""
    result = {}

    def add(row, arm, seed, value):
        result.setdefault(row, {}).setdefault(arm, {})[int(seed)] = float(value)

    paths = [f"accuracy/*/{name}.csv" for name in ("results", "statistics")]
    for path in (path for pattern in paths for path in RESULTS.glob(pattern)):
        with path.open(newline="", encoding="utf-8") as file:
            for each in csv.DictReader(file):
                row = path.parent.name, each["row"], each["metric"]
                add(row, each["column"], each["seed"], each["value"])
    for path in RESULTS.glob("accuracy/*/mixtures.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for each in csv.DictReader(file):
                if each["what"].endswith(" ratios"):
                    row = path.parent.name, each["row"], each["column"], "mixtures"
                    add(row, each["what"], each["seed"], each["value"])
    for path in RESULTS.glob("gpu_accuracy*.json"):
        for arm, curves in json.loads(path.read_text("utf-8"))["curves"].items():
            for seed, curve in curves.items():
                add(path.stem, arm, seed, 100 * curve[-1]["accuracy"])
                add((path.stem, 500), arm, seed, 100 * curve[-1]["by batches"])
    path, groups = RESULTS / "accuracy" / "cifar10" / "robustness.csv", {}
    with path.open(newline="", encoding="utf-8") as file:
        errors = [row for row in csv.DictReader(file) if row["kind"] == "error"]
    for each in errors:
        kind = each["corruption"]
        for name in (kind,) if kind == "none" else (kind, ""):
            place = name, each["arm"], each["seed"]
            groups.setdefault(place, []).append(float(each["value"]))
    for (name, arm, seed), values in groups.items():
        add(("corrupted", name), arm, seed, np.mean(values))
    assert len(result) > 20
    return result


@pytest.fixture(scope="module")
def published(seeds):
    """Texts of means and deviations; of paired differences with intervals."""
    means, gains = set(), set()
    for arms in seeds.values():
        for values in arms.values():
            if len(values) > 1:
                numbers = [*values.values()]
                deviation = np.std(numbers, ddof=1)
                for tie in TIES:
                    means.add(f"{np.mean(numbers) + tie:.2f} ± {deviation:.2f}")
        for own, other in permutations(arms.values(), 2):
            both = sorted(own.keys() & other.keys())
            if len(both) > 1:
                pairs = np.array([own[seed] - other[seed] for seed in both])
                half = stats.t.ppf(0.975, len(both) - 1) * stats.sem(pairs)
                ends = pairs.mean(), pairs.mean() - half, pairs.mean() + half
                for tie in TIES:
                    gains.add(tuple(f"{end + tie:+.2f}" for end in ends))
    return means, gains


@pytest.mark.parametrize("page", PAGES)
def test_accuracies_are_those_of_the_runs(page, published):
    means, gains = published
    text = (HOME / page).read_text(encoding="utf-8").replace("\n", " ")
    number = r"[+-]\d+\.\d\d"
    deviations = re.findall(r"\d+\.\d\d ± \d+\.\d\d", text)
    intervals = re.findall(rf"({number}),? to ({number})", text)
    triples = re.findall(rf"(?<!to )({number})[ (|,]+({number}) to ({number})", text)
    assert deviations + triples
    assert sorted(set(deviations) - means) == []
    assert sorted(set(intervals) - {gain[1:] for gain in gains}) == []
    assert sorted(set(triples) - gains) == []


@pytest.mark.parametrize("page", PAGES[1:3])
def test_errors_of_corrupted_images(page, seeds):
    names = {"clean": "none", "all corrupted": ""}
    text = (HOME / page).read_text(encoding="utf-8")
    _, table = text.split("| error, %, mean of five strengths |")
    head, _, *lines = table.split("\n\n")[0].splitlines()
    arms = [name.strip() for name in head.strip("|").split("|")]
    assert len(lines) == 7 and len(arms) == 6
    for line in lines:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        means = seeds["corrupted", names.get(name, name)]
        for arm, cell in zip(arms, cells, strict=True):
            assert len(means[arm]) == 5
            assert abs(np.mean([*means[arm].values()]) - float(cell)) <= 0.05 + 1e-9


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_runs_are_those_of_their_table(table):
    with (table / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    values = {tuple(row["folder"].split("/")[-2:]): row["value"] for row in rows}
    for facts in table.glob("*/seed*/run.json"):
        metrics = json.loads(facts.read_text("utf-8"))["metrics"]
        score = metrics.get("miou", metrics.get("top1"))
        assert abs(100 * score - float(values[facts.parts[-3:-1]])) <= 0.005 + 1e-9
