"""How much trained networks depend on the batch in which an image is seen.

    KERAS_EN_DATA=... python benchmarks/accuracy/batches.py RUNS [--images 2000]

`RUNS` is the folder of `keras-en reproduce benchmarks/accuracy/grids/batch.yaml`. Every
network whose norm has moving statistics sees test images by those, and by the
statistics of test batches as large as those of its training. Writes into the folder
statistics.csv, both accuracies of every network, and statistics.md, their means over
the seeds.
"""

import csv
from pathlib import Path

import keras
import runs

from keras_en.training.honest import statistics_gap
from keras_en.training.material import material
from keras_en.training.recipes.recipe import load

COLUMNS = ("row", "column", "metric", "seed", "value")
METRICS = ("by moving statistics", "by those of batches")


def measure(folder, count):
    """Both accuracies in %; `None` of a network without moving statistics."""
    # The same images for every network, whatever the seed of its training.
    images = material(load(folder / "recipe.yaml"))
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    batches = images.mixed(images.split(), count)
    gap = statistics_gap(model, batches, images.facts.classes)
    return gap and (100 * gap.moving, 100 * gap.batch)


def write(folder, rows, count):
    with (folder / "statistics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
    cells, norms = {}, list(dict.fromkeys(norm for _, norm, *_ in rows))
    for row, norm, metric, _, value in rows:
        cells.setdefault((row, metric), {}).setdefault(norm, []).append(value)
    lines = [f"# Test accuracy, %, of {count:,} images by two kinds of statistics"]
    lines += ["", f"| | {' | '.join(norms)} |", "|---" * (len(norms) + 1) + "|"]
    for (row, metric), arms in cells.items():
        texts = [runs.text_of(arms[norm]) if norm in arms else "" for norm in norms]
        lines.append(f"| {row}, {metric} | {' | '.join(texts)} |")
    lines += ["", "Mean ± standard deviation over the seeds; of whole batches only."]
    text = "\n".join(lines) + "\n"
    (folder / "statistics.md").write_text(text, encoding="utf-8")
    return text


def main():
    options, rows = runs.arguments(images=2000), []
    for run in runs.classifiers(options.runs):
        values = measure(Path(run["folder"]), options.images)
        print(run["folder"], values, flush=True)
        place = run["row"], run["column"]
        for metric, value in zip(METRICS, values or (), strict=False):
            rows.append((*place, metric, run["seed"], value))
    print(write(options.runs, rows, options.images))


if __name__ == "__main__":
    main()
