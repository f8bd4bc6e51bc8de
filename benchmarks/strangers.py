"""Surgery, training, files and exports of networks that others wrote.

    python benchmarks/strangers.py [--seconds N] [--without-exports] [NAME ...]

Families of keras-hub, where it is installed, and networks of other fields, written in
`strangers_own.py`; all with random weights. Each is measured in a process of its
own that ends after N seconds, 200 by default. Writes `results/strangers.md`, in which
the rows of other networks stay as they were. Exits with 1 if something failed.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import timing

COLUMNS = ("EN layers", "difference", "trained", "file", "SavedModel", "ONNX")
NOT_RUN = "not run here: "


def inputs_of(model, rng, count=2):
    import keras

    shapes = [(count, *(n or 64 for n in x.shape[1:])) for x in model.inputs]
    values = [rng.uniform(0, 1, shape).astype("float32") for shape in shapes]
    by_name = dict(zip([x.name for x in model.inputs], values, strict=True))
    is_named = not isinstance(model, keras.Sequential) and isinstance(model.input, dict)
    return by_name if is_named else values[0]


def outputs_of(model, x):
    import keras
    import numpy as np

    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def difference(one, other):
    """The largest over outputs, relative to the largest value of each."""
    import numpy as np

    pairs = zip(one, other, strict=True)
    return max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12) for a, b in pairs)


def randomize(model, rng):
    from keras_en.keras_private import layers_of

    for layer in layers_of(model):
        if type(layer).__name__ == "BatchNormalization":
            for variable in layer.variables:
                variable.assign_add(rng.uniform(-0.05, 0.05, variable.shape))


def by_a_last_bit(model, x, rng):
    """How far the outputs of a network jump where each gamma moves by a bit: what
    orders nearly equal scores has no smaller error than that."""
    import numpy as np

    before = outputs_of(model, x)
    gammas = [v for v in model.weights if v.path.endswith("/gamma")]
    values = [np.asarray(v) for v in gammas]
    for gamma, value in zip(gammas, values, strict=True):
        ends = rng.choice([-np.inf, np.inf], value.shape).astype(value.dtype)
        gamma.assign(np.nextafter(value, ends))
    after = outputs_of(model, x)
    for gamma, value in zip(gammas, values, strict=True):
        gamma.assign(value)
    return difference(before, after)


def trained(model, x):
    import keras
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(model(x, training=True))
        loss = sum(tf.reduce_mean(tf.square(y)) for y in outputs)
    gradients = tape.gradient(loss, model.trainable_variables)
    pairs = zip(gradients, model.trainable_variables, strict=True)
    pairs = [(g, v) for g, v in pairs if g is not None]
    keras.optimizers.SGD(1e-3).apply_gradients(pairs)
    values = [loss, *(v.value for v in model.variables if "float" in v.dtype)]
    finite = all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in values)
    return "yes" if finite else "FAILED: not finite"


class NeitherByKeras(Exception):
    """A network that Keras itself cannot copy layer by layer."""


def cloned(model):
    import keras

    try:
        return keras.models.clone_model(keras.Model(model.inputs, model.outputs))
    except Exception:
        return None


def saved_and_loaded(model, folder):
    import keras

    model.save(folder / "m.keras")
    return keras.models.load_model(folder / "m.keras")


def file_of(model, old, x, folder):
    import keras
    import numpy as np

    from keras_en.text import one_line

    try:
        again = saved_and_loaded(model, folder)
    except Exception as error:
        try:
            saved_and_loaded(keras.Model(old.inputs, old.outputs), folder)
        except Exception:
            text = f"{type(error).__name__}: {one_line(error, 120)}"
            return f"none: nor is there one of its graph as it was: {text}"
        raise
    pairs = zip(outputs_of(model, x), outputs_of(again, x), strict=True)
    equal = all(np.array_equal(a, b) for a, b in pairs)
    return "yes" if equal else "FAILED: other outputs"


def exported(model, to, folder):
    from keras_en import export

    if to == "ONNX":
        # Families of convolutions alone leave their sizes open.
        is_open = any(None in x.shape[1:] for x in model.inputs)
        dynamic = ("batch", "height", "width") if is_open else ("batch",)
        path = export.export_onnx(model, folder / "m.onnx", dynamic=dynamic)
    else:
        path = export.export_saved_model(model, folder / "served")
    report = export.verify(model, path, batches=(1, 3))
    failed = [f"{c.gate} {c.name}: {c.detail}" for c in report.failures]
    skipped = sorted({c.name for c in report.checks if c.status == "not run"})
    note = f", without {', '.join(skipped)}" if skipped else ""
    return f"FAILED: {'; '.join(failed)}" if failed else f"verified{note}"


def stages(name):
    """What each column says, as functions, which share what the first ones make."""
    import keras
    import numpy as np
    import strangers_hub
    import strangers_own

    from keras_en import ExemplarNormalization, replace_normalization
    from keras_en.keras_private import layers_of
    from keras_en.text import one_line

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    folder = Path(tempfile.mkdtemp())
    both = {}

    def replaced():
        old = (strangers_own.NETWORKS | strangers_hub.NETWORKS)[name]()
        randomize(old, rng)
        try:
            new = replace_normalization(old, initial_ratios={"batch": 1.0})
        except ValueError as error:
            if cloned(old):
                raise
            raise NeitherByKeras(one_line(error.__cause__ or error, 120)) from error
        both.update(old=old, new=new, x=inputs_of(old, rng))
        kinds = [type(layer) for layer in layers_of(new)]
        left = kinds.count(keras.layers.BatchNormalization)
        count = kinds.count(ExemplarNormalization)
        return f"FAILED: {left} left" if left else str(count)

    def equal():
        old, new = (outputs_of(both[key], both["x"]) for key in ("old", "new"))
        value = difference(old, new)
        if value < 1e-4:
            return f"{value:.1e}"
        own = by_a_last_bit(both["old"], both["x"], rng)
        rounding = value <= 10 * own
        return f"{value:.1e}; its own {own:.1e}" if rounding else f"FAILED: {value:.1e}"

    return [
        replaced,
        equal,
        lambda: trained(both["new"], both["x"]),
        lambda: file_of(both["new"], both["old"], both["x"], folder),
        lambda: exported(both["new"], "SavedModel", folder),
        lambda: exported(both["new"], "ONNX", folder),
    ]


def measure(name, count):
    """Prints the text of each column as soon as it is there."""
    from keras_en.text import one_line

    for stage in stages(name)[:count]:
        try:
            text = stage()
        except NeitherByKeras as error:
            sys.exit(f"keras.models.clone_model cannot copy its layers: {error}")
        except Exception as error:
            text = f"FAILED: {type(error).__name__}: {one_line(error, 200)}"
        print("\n" + json.dumps(text), flush=True)


def row(name, options, is_of_hub):
    if is_of_hub and importlib.util.find_spec("keras_hub") is None:
        return [NOT_RUN + "keras-hub is not installed"] * len(COLUMNS)
    command = [sys.executable, __file__, "--measure", name]
    command += ["--without-exports"] * options.without_exports
    try:
        done = subprocess.run(command, capture_output=True, timeout=options.seconds)
        output = done.stdout
        reason = (done.stderr.decode().strip().splitlines() or [""])[-1][-200:]
        if done.returncode == 0:
            reason = "without exports"
    except subprocess.TimeoutExpired as error:
        output, reason = error.stdout or b"", f"longer than {options.seconds} s"
    lines = [line for line in output.decode().splitlines() if line.startswith('"')]
    texts = [json.loads(line) for line in lines]
    rest = [NOT_RUN + " ".join(reason.split())] * (len(COLUMNS) - len(texts))
    return [text.replace("|", "/") for text in texts + rest]


def written():
    """The rows of the table that is there."""
    path = timing.RESULTS / "strangers.md"
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in rows[1:]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seconds", type=int, default=200)
    parser.add_argument("--without-exports", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure, 4 if options.without_exports else 6)
    import strangers_hub
    import strangers_own

    failed = False
    names = [*strangers_hub.NETWORKS, *strangers_own.NETWORKS]
    for name in options.names or names:
        cells = row(name, options, name in strangers_hub.NETWORKS)
        table = {other: [NOT_RUN + "not yet"] * len(COLUMNS) for other in names}
        table |= {**written(), name: cells}
        failed |= any(text.startswith("FAILED") for text in cells)
        print(name, *cells, sep=" | ", flush=True)
        write(table, strangers_hub.NETWORKS)
    return int(failed)


def write(table, of_hub):
    lines = ["| network | " + " | ".join(COLUMNS) + " |", "|---" * 7 + "|"]
    for name, cells in table.items():
        lines.append("| " + " | ".join([name, *cells]) + " |")
    notes = [
        "- surgery with initial_ratios={'batch': 1.0}, random weights",
        "- EN layers: none of BatchNormalization is left",
        "- difference: of the outputs, the largest over the largest output; beside it,",
        "  where it is large, that of the network by the last bits of its gammas",
        "- trained: a step of SGD, all is finite",
        "- file: equal outputs behind a `.keras` file",
        "- SavedModel, ONNX: exported, and verified by `keras_en.export.verify` at",
        "  batches 1 and 3",
        "- D-FINE, with random weights, takes the highest of nearly equal scores:",
        "  with BatchNormalization, too, its outputs in a graph and out of one",
        "  are up to 1.0 apart, so that no export of it can be verified;",
        "  `keras.Model.export` refuses it",
        f"- of keras-hub: {', '.join(of_hub)}",
    ]
    timing.write("strangers", "Networks that others wrote", lines, notes)


if __name__ == "__main__":
    sys.exit(main())
