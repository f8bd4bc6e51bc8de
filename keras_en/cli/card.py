"""A model's card: a folder for the Hugging Face Hub or Kaggle, with what it is."""

import contextlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras

from keras_en import files
from keras_en.cli.options import NOTHING
from keras_en.export.facts import facts_of
from keras_en.text import one_line, table
from keras_en.training import experiment, run_folder
from keras_en.training.recipes import recipe as recipes
from keras_en.version import __version__

NAME, PICTURE = "README.md", "ratios.png"
KAGGLE, INSTANCE = "model-metadata.json", "model-instance-metadata.json"
METRICS = {"top1": "accuracy", "top5": "top-5 accuracy", "miou": "mean_iou"}
TITLES = {"top1": "accuracy", "top5": "accuracy, first five", "miou": "mIoU"}
# Where the quickstart and `keras-en ratios --out ratios` leave it, in a run.
_PICTURES = ("ratios/figures/layers.png", "report/figures/layers.png")
_OWNER = "INSERT_OWNER_SLUG_HERE"


def check_card(folder: Path | None, overwrite: bool) -> None:
    """Raises `RuntimeError` unless a card can be written into `folder`."""
    if folder is None or not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not overwrite):
        raise RuntimeError(
            "--card must be a new or empty folder, or with --overwrite one that is "
            f"replaced. Received: {folder}; {NOTHING}"
        )


def write_card(folder: Path, model: keras.Model, path: Path, licence: str) -> None:
    """Writes the folder: the parts of a `.keras` file, as `hf://` and
    `keras.saving.load_model(folder)` take them, README.md and Kaggle's metadata.

    Args:
        folder: Where it is to be.
        model: The network.
        path: Its file; beside it a training may have left what it was.
        licence: Its licence, as the Hub names them.
    """
    run = run_folder.facts(path.parent)
    name = model.name.replace("_", "-")
    with files.staged(folder) as staged:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(staged.path)
        for picture in map(path.parent.joinpath, _PICTURES):
            if picture.is_file():
                shutil.copyfile(picture, staged.path / PICTURE)
                break
        drawn = (staged.path / PICTURE).is_file()
        data = _data(path.parent)
        text = card(model, name, licence, run, data, drawn)
        (staged.path / NAME).write_text(text, "utf-8")
        for file, values in _kaggle(name, text).items():
            text = json.dumps(values, indent=1) + "\n"
            (staged.path / file).write_text(text, "utf-8")
        staged.publish()


def card(
    model: keras.Model,
    name: str,
    licence: str,
    run: dict[str, Any],
    data: str | None,
    picture: bool,
) -> str:
    """The text of README.md.

    Args:
        model: The network.
        name: What it is called.
        licence: See `write_card`.
        run: What `run.json` has; empty if there is none.
        data: The source of its images, as recipes have it, or `None`.
        picture: Whether there is one of its ratios.
    """
    parts = [_header(model, name, licence, run, data), f"# {name}\n", _what(model)]
    if run:
        parts.append(_training(run, data))
    if picture:
        parts.append(f"![Important ratios by layer]({PICTURE})\n")
    parts.append(LOADING)
    return "\n".join(parts)


LOADING = f"""## Load it

`import keras_en` comes first: it registers the layers. `pip install keras-en`,
{__version__} or later.

```python
import keras
import keras_en

model = keras.saving.load_model("FOLDER")
# From the Hub, with huggingface_hub:
model = keras.saving.load_model("hf://USER/NAME")
```

To publish this folder: `hf upload USER/NAME .`; or on Kaggle, with the owner written
into both metadata files, `kaggle models create -p .` and
`kaggle models instances create -p .`.
"""


def _header(model, name, licence, run, data):
    """YAML that the Hub reads; JSON is YAML that holds any text."""
    metrics = {k: v for k, v in run.get("metrics", {}).items() if k in METRICS}
    values: dict[str, Any] = {"library_name": "keras", "license": licence}
    task = _task(model)
    if task is not None:
        values["pipeline_tag"] = task
    values["tags"] = ["keras", "exemplar-normalization"]
    kind, _, dataset = (data or "").partition(":")
    if kind == "tfds" and dataset:
        dataset = dataset.partition("/")[0].partition(":")[0]
        values["datasets"] = [dataset]
    if metrics:
        values["metrics"] = [METRICS[metric] for metric in metrics]
    if metrics and task is not None and data:
        results = [
            {"type": METRICS[metric], "value": value, "name": TITLES[metric]}
            for metric, value in metrics.items()
        ]
        where = {"type": dataset or kind, "name": data}
        result = {"task": {"type": task}, "dataset": where, "metrics": results}
        values["model-index"] = [{"name": name, "results": [result]}]
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _task(model):
    """As the Hub names them; `None` of what is neither."""
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 1:
        return None
    tasks = {2: "image-classification", 4: "image-segmentation"}
    return tasks.get(len(outputs[0].shape))


def _what(model):
    facts = facts_of(model)
    rows = [
        ("inputs", ", ".join(str(tuple(x.shape)) for x in model.inputs)),
        ("outputs", ", ".join(str(tuple(x.shape)) for x in model.outputs)),
        ("parameters", f"{facts['parameters']:,}"),
        *((kind, f"{count} layers") for kind, count in facts["norm"].items()),
        ("versions", f"keras-en {__version__}, keras {keras.__version__}"),
    ]
    return table(("network", model.name), rows) + "\n"


def _training(run, data):
    hardware = run.get("hardware", {})
    metrics = run.get("metrics", {}).items()
    rows = [(TITLES[k], f"{value:.2%}") for k, value in metrics if k in TITLES]
    rows += [
        ("data", data or "unknown"),
        ("recipe", run.get("recipe", "unknown")),
        ("seed", run.get("seed", "unknown")),
        ("seconds", f"{run_folder.seconds(run):,.0f}"),
        ("processor", hardware.get("processor", "unknown")),
        ("trained with", _listed(run.get("versions", {}))),
    ]
    rows = [(name, one_line(value, limit=None)) for name, value in rows]
    return "## How it was trained\n\n" + table(("", ""), rows) + "\n"


def _listed(versions):
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _data(folder):
    recipe = folder / experiment.RECIPE
    # Without a package, or of a file of others, nothing is said of the data.
    with contextlib.suppress(RuntimeError, ValueError):
        return recipes.load(recipe).data.source if recipe.is_file() else None
    return None


def _kaggle(name, text):
    """The two files of Kaggle's command; who owns it, and the licence of the second in
    Kaggle's words, have to be written in."""
    model = {"ownerSlug": _OWNER, "title": name, "slug": name, "subtitle": ""}
    model |= {"isPrivate": True, "description": text.partition("---\n\n")[2]}
    instance = {"ownerSlug": _OWNER, "modelSlug": name, "instanceSlug": "default"}
    instance |= {"framework": "keras", "overview": "", "usage": LOADING}
    instance |= {"licenseName": "INSERT_LICENSE_HERE", "fineTunable": True}
    return {
        KAGGLE: {**model, "publishTime": "", "provenanceSources": ""},
        INSTANCE: {**instance, "trainingData": []},
    }
