"""Ends `keras-en train` by kill -9 at random moments, goes on with --resume each time,
and compares the last weights with those of a training that nobody ended.

    KERAS_EN_DATA=... python benchmarks/kills.py [RECIPE] [--kills 20]

Moments are spread over the whole process: imports, building, compiling, steps,
checkpoints, the reports behind the last epoch. Prints what each process had done.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SMALL = ["--set", "network.arguments.depth=8", "--limit-train", "1280", "--epochs", "4"]
COMMAND = [sys.executable, "-m", "keras_en.cli", "train"]


def train(recipe, folder, *options, until=None):
    """Seconds of the process, its exit code and its output; ends it after `until`
    seconds."""
    words = [recipe, *SMALL, "--output", str(folder), "--checkpoint-every", "3"]
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, *words, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        text, _ = process.communicate(timeout=until)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
    return time.monotonic() - started, process.returncode, text


def weights(folder):
    """Of the network that the run wrote."""
    import keras

    import keras_en  # noqa: F401

    model = keras.saving.load_model(folder / "model.keras", compile=False)
    return [np.asarray(value, "float64") for value in model.get_weights()]


def last(text):
    """What a process said of its progress."""
    said = re.findall(r"[Rr]esumed at epoch \d+, step \d+|Epoch \d+/\d+", text)
    return f"{said[0]} ... {said[-1]}" if said else "no epoch yet"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", nargs="?", default="small_cifar10")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, ended = Path(scratch, "whole"), Path(scratch, "ended")
        seconds, code, text = train(options.recipe, whole)
        assert code == 0, text
        print(f"never ended: {seconds:.0f} s", flush=True)
        kills = 0
        while kills < options.kills:
            until = moments.uniform(0, seconds)
            _, code, text = train(options.recipe, ended, "--resume", until=until)
            assert code in (0, -9), text
            if code == 0:
                print("finished; begins anew", flush=True)
                compare(weights(whole), weights(ended), kills)
                subprocess.run(["rm", "-r", str(ended)], check=True)
                continue
            kills += 1
            print(f"kill {kills} after {until:.0f} s: {last(text)}", flush=True)
        _, code, text = train(options.recipe, ended, "--resume")
        assert code == 0, text
        compare(weights(whole), weights(ended), kills)


def compare(first, second, kills):
    """Prints the largest difference."""
    pairs = zip(first, second, strict=True)
    largest = max(np.abs(a - b).max(initial=0) for a, b in pairs)
    print(f"{kills} kills: largest difference of weights {largest:.1e}", flush=True)


if __name__ == "__main__":
    main()
