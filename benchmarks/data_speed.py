"""Images a second of the input pipeline alone, as ratios to a bare loop that decodes.

    KERAS_EN_DATA=... python benchmarks/data_speed.py [--rounds 3]

CIFAR-10 in memory, batch 128: pad_crop, flip, normalize, in NumPy. Tiny-ImageNet's 20
classes written out as a folder of JPEGs, batch 128, by tf.data: as they are, with
pad_crop and flip, and resized to 160; against `tf.data` that reads and decodes them.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import timing

from keras_en.training.data import Transform, load

BATCH = 128
FILE = "tinyimagenet20_jpeg_packed.npz"


def write_out(path, folder, count):
    """The first so many training images of each class, one folder per class."""
    with np.load(path) as file:
        data, offsets = file["train_jpeg"], file["train_offsets"]
        labels, names = file["train_labels"], file["wnids"]
    paths = []
    for label, name in enumerate(names):
        (folder / str(name)).mkdir()
        for i in np.flatnonzero(labels == label)[:count]:
            paths.append(folder / str(name) / f"{i:05d}.jpg")
            paths[-1].write_bytes(data[offsets[i] : offsets[i + 1]].tobytes())
    return paths


def drained(batches):
    return sum(len(labels) for _, labels in batches)


def bare(paths):
    """Reading and decoding, and nothing else."""

    def decoded(path):
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3)

    data = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    data = data.map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def cifar(folder):
    source = f"npz:{folder / 'cifar10_jpeg_packed.npz'}"
    train = load(source).splits["train"]
    statistics = {"mean": [0.491, 0.482, 0.447], "std": [0.247, 0.244, 0.262]}
    transform = Transform.of([{"pad_crop": 4}, "flip", {"normalize": statistics}])
    plain = Transform.of([{"normalize": statistics}])
    return {
        "in memory": lambda: drained(train.batches(BATCH, transform, seed=0)),
        "in memory, normalize only": lambda: drained(train.batches(BATCH, plain)),
    }, len(train)


def tiny(paths, folder):
    small = load(f"folder:{folder}").splits["train"]
    large = load(f"folder:{folder}", image_size=160).splits["train"]
    moved = Transform.of([{"pad_crop": 4}, "flip"])
    cut = Transform.of(["random_resized_crop", "flip"], image_size=160)
    part = paths[: len(small)]
    return {
        "bare": lambda: sum(len(images) for images in bare(part)),
        "64x64": lambda: drained(small.batches(BATCH)),
        "64x64, pad_crop, flip": lambda: drained(small.batches(BATCH, moved, seed=0)),
        "160x160": lambda: drained(large.batches(BATCH)),
        "160x160, random_resized_crop, flip": lambda: drained(
            large.batches(BATCH, cut, seed=0)
        ),
    }, len(small)


def cores(call):
    """How many processors this process keeps busy."""
    started, used = time.perf_counter(), time.process_time()
    call()
    return (time.process_time() - used) / (time.perf_counter() - started)


def report(title, calls, count, rounds):
    times = timing.interleave(calls, rounds)
    first = np.median(times[next(iter(calls))])
    print(title)
    for name, values in times.items():
        median = np.median(values)
        busy = cores(calls[name])
        rate = f"{count / median:,.0f} images/s, {first / median:.2f}"
        print(f"  {name}: {rate}, {busy:.1f} cores busy")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200, help="images a class")
    options = parser.parse_args()
    data = Path(os.environ["KERAS_EN_DATA"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = write_out(data / FILE, folder, options.count)
        calls, count = tiny(paths, folder)
        report(
            "Tiny-ImageNet-20, a folder; ratio to bare", calls, count, options.rounds
        )
    calls, count = cifar(data)
    report("CIFAR-10, ratio to the first", calls, count, options.rounds)


if __name__ == "__main__":
    main()
