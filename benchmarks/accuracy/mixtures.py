"""What it brings that every image has a mixture of its own: networks without it.

    KERAS_EN_DATA=... python benchmarks/accuracy/mixtures.py RUNS [--images 10000]

`RUNS` is the folder of a `keras-en reproduce`. Every network of it whose norm is EN
sees test images, in batches of 128, as it is, and with the mean ratios of 2,000
training images in every layer, the same for all images. Writes into the folder
mixtures.csv, both accuracies of every network, and its ratios by layer; and
mixtures.md, their means over the seeds: "saturated" is the share of images of which one
normalizer has 0.99 and more, "between" and "within" how far classes and the images of a
class are apart (standard deviations).
"""

import csv
import itertools
import statistics
from pathlib import Path

import keras
import numpy as np
import runs

import keras_en
from keras_en.analysis.collect import exemplar_layers
from keras_en.analysis.measures import short_names, spread
from keras_en.training.comparison import Difference, markdown
from keras_en.training.material import material
from keras_en.training.recipes.recipe import load

BATCH = 128
TRAINING_IMAGES = 2000
ARMS = ("own ratios", "mean ratios")
COLUMNS = ("row", "column", "seed", "layer", "what", "value")


def measure(folder, count):
    """`(layer or "", what, value)` of a network."""
    images = material(load(folder / "recipe.yaml", [f"data.batch_size={BATCH}"]))
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    test = images.evaluate(images.split())
    test = [*itertools.islice(test, -(-count // BATCH))]
    yield "", "images", sum(len(y) for _, y in test)
    yield "", ARMS[0], accuracy(model, test)
    ratios = keras_en.analysis.collect_ratios(model, test, verbose=0)
    apart = spread(ratios)
    for i, (name, layer) in enumerate(zip(short_names(ratios), ratios, strict=True)):
        own = ratios[layer]
        pool = exemplar_layers(model)[layer].pool
        for normalizer, share in zip(pool, own.mean(axis=0), strict=True):
            yield name, normalizer, float(share)
        yield name, "saturated", float((own.max(axis=1) >= 0.99).mean())
        yield name, "between", float(apart.between[i])
        yield name, "within", float(apart.within[i])
    seen = images.mixed("train", TRAINING_IMAGES)
    give_all_the_same(model, keras_en.analysis.collect_ratios(model, seen, verbose=0))
    yield "", ARMS[1], accuracy(model, test)


def accuracy(model, batches):
    """In %."""
    model.make_predict_function(force=True)
    right = [model.predict_on_batch(x).argmax(-1) == np.asarray(y) for x, y in batches]
    return 100 * float(np.concatenate(right).mean())


def give_all_the_same(model, ratios):
    """The head says the mean ratios, whatever it sees."""
    for path, layer in exemplar_layers(model).items():
        shares = np.maximum(ratios[path].astype("float64").mean(axis=0), 1e-8)
        layer.ratio_output_kernel.assign(np.zeros(layer.ratio_output_kernel.shape))
        layer.ratio_output_bias.assign(np.log(shares))


def write(folder, rows):
    with (folder / "mixtures.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    cells = {}
    for row, column, seed, layer, what, value in rows:
        place = cells.setdefault((row, column), {}).setdefault((layer, what), {})
        place[int(seed)] = value
    lines = ["# What it brings that every image has ratios of its own", ""]
    (count,) = {value for *_, what, value in rows if what == "images"}
    lines.append(
        f"Accuracy in % on {int(count):,} test images, mean ± standard deviation over "
        "the seeds:"
    )
    lines += ["", f"| | {' | '.join(ARMS)} |", "|---|---|---|"]
    for name, cell in cells.items():
        texts = [runs.text_of([*cell["", arm].values()]) for arm in ARMS]
        lines.append(f"| {', '.join(name)} | {' | '.join(texts)} |")
    lines += ["", markdown([_gain(*pair) for pair in cells.items()]).rstrip()]
    for name, cell in cells.items():
        lines += ["", f"{', '.join(name)}, the network as it is, mean over the seeds:"]
        lines += ["", *_layers(cell)]
    text = "\n".join(lines) + "\n"
    (folder / "mixtures.md").write_text(text, encoding="utf-8")
    return text


def _gain(name, cell):
    own, mean = (cell["", arm] for arm in ARMS)
    gains = tuple(own[seed] - mean[seed] for seed in sorted(own))
    return Difference(name, "top1", *ARMS, gains)


def _layers(cell):
    heads = list(dict.fromkeys(what for layer, what in cell if layer))
    yield f"| layer | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 1) + "|"
    for layer in dict.fromkeys(layer for layer, _ in cell if layer):
        means = [statistics.mean(cell[layer, what].values()) for what in heads]
        yield f"| {layer} | {' | '.join(f'{mean:.3f}' for mean in means)} |"


def main():
    options, rows = runs.arguments(images=10_000), []
    for run in runs.classifiers(options.runs):
        folder = Path(run["folder"])
        if load(folder / "recipe.yaml").norm.name == "en":
            print(run["folder"], flush=True)
            for each in measure(folder, options.images):
                rows.append((run["row"], run["column"], run["seed"], *each))
    print(write(options.runs, rows))


if __name__ == "__main__":
    main()
