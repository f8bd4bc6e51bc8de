"""Trained networks on corrupted test images, and how far EN's ratios move there.

    KERAS_EN_DATA=... python benchmarks/accuracy/robustness.py RUNS [--images 2000]

`RUNS` is the folder of `keras-en reproduce benchmarks/accuracy/grids/cifar10.yaml`.
Noise, blur, contrast, brightness and JPEG, each at five strengths. Writes into it
robustness.csv, what was measured of every network, and goes on where it was stopped;
and robustness.md: the error of every norm, of BN by the statistics of the test batch
too, means over the seeds and their deviation; the mean change of EN's ratios from those
of the clean image; and EN against each other norm, on the same seeds.
"""

import argparse
import csv
import io
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageFilter

import keras_en
from keras_en.training import comparison
from keras_en.training.honest import batch_statistics
from keras_en.training.material import material
from keras_en.training.recipes.recipe import load

BATCH = 128
COLUMNS = ("folder", "seed", "images", "corruption", "strength", "arm", "kind", "value")


def noise(images, strength):
    draws = np.random.default_rng(strength).normal(size=images.shape)
    return clipped(images + (8, 12, 18, 26, 38)[strength] * draws)


def blur(images, strength):
    radius = (0.4, 0.6, 0.8, 1.0, 1.4)[strength]
    return each(images, lambda i: i.filter(ImageFilter.GaussianBlur(radius)))


def contrast(images, strength):
    mean = images.mean((1, 2, 3), keepdims=True)
    return clipped(mean + (0.75, 0.5, 0.4, 0.3, 0.15)[strength] * (images - mean))


def brightness(images, strength):
    return clipped(images.astype(float) + (13, 26, 51, 77, 102)[strength])


def jpeg(images, strength):
    def again(image):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=(80, 65, 58, 50, 40)[strength])
        return Image.open(file)

    return each(images, again)


CORRUPTIONS = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "brightness": brightness,
    "JPEG": jpeg,
}


def clipped(values):
    return np.clip(np.rint(values), 0, 255).astype("uint8")


def each(images, change):
    return np.stack([np.asarray(change(Image.fromarray(i))) for i in images])


def error(model, inputs, labels):
    """In %."""
    outputs = model.predict(inputs, batch_size=BATCH, verbose=0)
    return 100 * float(np.mean(outputs.argmax(-1) != labels))


def error_by_batches(model, inputs, labels):
    """By the statistics of each test batch, in %."""
    wrong = 0
    with batch_statistics(model):
        for i in range(0, len(inputs), BATCH):
            outputs = np.asarray(model(inputs[i : i + BATCH], training=False))
            wrong += int((outputs.argmax(-1) != labels[i : i + BATCH]).sum())
    return 100 * wrong / len(inputs)


def ratios(model, inputs):
    collected = keras_en.analysis.collect_ratios(model, inputs, verbose=0)
    return np.concatenate([collected[layer.path] for layer in collected.layers], axis=1)


def measure(folder, count):
    """`[(corruption, strength, arm, kind, value)]` of a run."""
    recipe = load(folder / "recipe.yaml")
    images = material(recipe)
    split = images.data.splits[images.split()]
    pixels, labels = split.images[:count], split.labels[:count]
    normalized = recipe.data.evaluate[0]["normalize"]
    mean, deviation = (np.array(normalized[name]) for name in ("mean", "std"))
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    arm = recipe.norm.name.upper()

    def ready(values):
        return ((values / 255 - mean) / deviation).astype("float32")

    clean = ready(pixels)
    before = ratios(model, clean) if arm == "EN" else None
    yield "none", 0, arm, "error", error(model, clean, labels)
    if arm == "BN":
        name = "BN, batch statistics"
        yield "none", 0, name, "error", error_by_batches(model, clean, labels)
    for corruption, change in CORRUPTIONS.items():
        for strength in range(5):
            inputs = ready(change(pixels, strength))
            place = corruption, strength + 1
            yield *place, arm, "error", error(model, inputs, labels)
            if arm == "BN":
                yield *place, name, "error", error_by_batches(model, inputs, labels)
            if before is not None:
                moved = np.abs(ratios(model, inputs) - before).mean()
                yield *place, "EN", "ratios", float(moved)


def write(path, rows, count):
    """Means over the runs of an arm, and differences of the arms."""
    cells = {}
    for row in rows:
        place = row["kind"], row["corruption"], int(row["strength"])
        arms = cells.setdefault(place, {}).setdefault(row["arm"], {})
        arms[int(row["seed"])] = float(row["value"])
    arms = list(dict.fromkeys(arm for row in cells.values() for arm in row))
    lines = [f"# Corrupted test images: the first {count:,}", ""]
    lines += [f"| corruption | strength | {' | '.join(arms)} | EN's ratios move |"]
    lines.append("|---" * (len(arms) + 3) + "|")
    for kind, corruption, strength in cells:
        if kind == "error":
            row = cells[kind, corruption, strength]
            texts = [_text([*row[arm].values()]) if arm in row else "" for arm in arms]
            moved = cells.get(("ratios", corruption, strength), {}).get("EN")
            texts.append(f"{np.mean([*moved.values()]):.3f}" if moved else "")
            lines.append(f"| {corruption} | {strength} | {' | '.join(texts)} |")
    lines += [
        "",
        "Error in %: mean ± standard deviation, number of seeds; ratios: mean absolute "
        "change, of at most 2 / 3. The clean images, too, have been compressed anew as "
        "JPEG.",
        "",
        comparison.markdown(list(differences(cells, arms))).rstrip(),
        "",
        "Of errors, the mean of the strengths: below 0 EN errs less.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def differences(cells, arms):
    """EN's mean error over the strengths, less that of each other arm, seed by seed."""
    names = list(dict.fromkeys(name for kind, name, _ in cells if kind == "error"))
    groups = {name: [name] for name in names} | {"all corrupted": [*CORRUPTIONS]}
    for group, corruptions in groups.items():
        errors = [
            row
            for (kind, name, _), row in cells.items()
            if kind == "error" and name in corruptions
        ]

        def mean(arm, seed, errors=errors):
            return float(np.mean([row[arm][seed] for row in errors]))

        (first, *_) = errors
        for other in arms:
            seeds = first.get("EN", {}).keys() & first.get(other, {}).keys()
            if other != "EN" and seeds:
                gains = tuple(mean("EN", s) - mean(other, s) for s in sorted(seeds))
                yield comparison.Difference((group,), "error", "EN", other, gains)


def _text(values):
    text = f"{np.mean(values):.1f}"
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.1f}"
    return f"{text}, n={len(values)}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--only", default="ResNet8", help="rows of results.csv")
    options = parser.parse_args()
    with (options.runs / "results.csv").open(newline="", encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if options.only in row["row"]]
    path, rows = options.runs / "robustness.csv", []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
    rows = [row for row in rows if int(row["images"]) == options.images]
    done = {row["folder"] for row in rows}
    for run in table:
        if run["folder"] not in done:
            for values in measure(Path(run["folder"]), options.images):
                values = map(str, (run["folder"], run["seed"], options.images, *values))
                rows.append(dict(zip(COLUMNS, values, strict=True)))
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            print(run["folder"], flush=True)
    write(options.runs / "robustness.md", rows, options.images)
    print((options.runs / "robustness.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
