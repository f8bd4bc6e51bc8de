"""Two versions of the package: one EN layer against BatchNormalization, in turns.

    python benchmarks/old_and_new.py OLD [--turns 3] [--network]

`OLD` is a checkout of the other version. Each turn is a process of either, on
TensorFlow (graph, XLA) and on JAX, float32. Writes `results/old_and_new.md`; with
`--network`, of ResNet-20 on TensorFlow, `results/old_and_new_network.md`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import timing

HOME = Path(__file__).resolve().parents[1]
MODES = {"tensorflow": ("graph", "xla"), "jax": ("jit",)}
ONE = """
import json, sys
import layer_speed
from keras import layers
from keras_en import ExemplarNormalization
layer_speed.LAYERS = {
    "BatchNormalization": layers.BatchNormalization, "EN": ExemplarNormalization
}
for mode in sys.argv[1].split(","):
    for shape in layer_speed.SHAPES:
        results = layer_speed.measure(shape, "float32", mode, 9)
        ratios = {job: named["EN"][0] for job, named in results.items()}
        print("ROW", json.dumps([mode, "x".join(map(str, shape)), ratios]), flush=True)
"""
NETWORK = """
import json, sys
import model_speed
for mode in sys.argv[1].split(","):
    for line in model_speed.speed("ResNet-20", mode, ["BN", "EN"], 5):
        name, _, ratio = line.strip("| ").split(" | ")
        job = {name.partition(": ")[2]: float(ratio)}
        print("ROW", json.dumps([mode, "ResNet-20", job]), flush=True)
"""


def ratios(tree, backend, program):
    """`{(mode, job, shape or network): EN / BN}` of a process."""
    paths = os.pathsep.join([str(tree), str(HOME / "benchmarks")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": paths}
    command = [sys.executable, "-c", program, ",".join(MODES[backend])]
    done = subprocess.run(
        command, env=environment, cwd=tree, check=True, capture_output=True, text=True
    )
    result = {}
    for line in done.stdout.splitlines():
        if line.startswith("ROW "):
            mode, shape, jobs = json.loads(line[4:])
            result |= {(mode, job, shape): value for job, value in jobs.items()}
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--network", action="store_true")
    options = parser.parse_args()
    trees = {"old": options.old.resolve(), "new": HOME}
    program = NETWORK if options.network else ONE
    every = {}
    for turn in range(options.turns):
        for backend in ["tensorflow"] if options.network else MODES:
            for name in (list(trees), list(trees)[::-1])[turn % 2]:
                for key, value in ratios(trees[name], backend, program).items():
                    every.setdefault((backend, *key), {}).setdefault(name, [])
                    every[backend, *key][name].append(value)
                print(turn, backend, name, flush=True)
    lines = ["| | shape | old | new | new / old |", "|---|---|---|---|---|"]
    together = {}
    for (backend, mode, job, shape), values in every.items():
        together.setdefault((backend, mode, job), []).append(values)
        old, new = (statistics.median(values[name]) for name in trees)
        texts = (f"{value(values[name]):.2f}" for name in trees for value in (min, max))
        low, high, least, most = texts
        where = f"{backend}, {mode}, {job} | {shape}"
        text = f"{old:.2f} ({low} to {high}) | {new:.2f} ({least} to {most})"
        lines.append(f"| {where} | {text} | {new / old:.2f} |")
    lines += ["", "Geometric means over shapes:", "", "| | old | new | new / old |"]
    lines.append("|---|---|---|---|")
    for where, rows in together.items():
        medians = [[statistics.median(row[name]) for row in rows] for name in trees]
        old, new = map(timing.geometric_mean, medians)
        lines.append(
            f"| {', '.join(where)} | {old:.2f} | {new:.2f} | {new / old:.2f} |"
        )
    commit = ["git", "-C", str(options.old), "log", "-1", "--format=%h, %s"]
    old = subprocess.run(commit, capture_output=True, text=True, check=True)
    sys.argv[1] = "OLD"
    about = [
        "Time of EN over that of `keras.layers.BatchNormalization`: medians of "
        f"{options.turns} processes each, in brackets the least and the most of them. "
        f"Old is {old.stdout.strip()}.",
        "",
    ]
    name, title = "old_and_new", "One EN layer, old and new"
    if options.network:
        name, title = "old_and_new_network", "A network with EN, old and new"
    timing.write(name, title, [*about, *lines])


if __name__ == "__main__":
    main()
