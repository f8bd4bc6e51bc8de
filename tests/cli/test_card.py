"""`keras-en export --card`: what stands in it, and that Keras loads the folder."""

import json
import re
import shutil

import keras
import numpy as np
import pytest

from keras_en import cli
from keras_en.cli import card
from keras_en.models import CifarResNet

pytestmark = pytest.mark.tensorflow
yaml = pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a training leaves."""
    folder = tmp_path_factory.mktemp("run")
    model = CifarResNet(8, input_shape=(8, 8, 3), classes=3)
    model.save(folder / "model.keras")
    (folder / "recipe.yaml").write_text(
        "name: own\nnetwork: {name: CifarResNet, arguments: {depth: 8}}\n"
        "data: {source: 'tfds:cifar10'}\n"
    )
    facts = {
        "recipe": "own",
        "seed": 3,
        "metrics": {"top1": 0.875, "other": 1.0},
        "versions": {"keras": "3.15"},
        "processes": [{"seconds": 60.0}, {"seconds": None}],
    }
    (folder / "run.json").write_text(json.dumps(facts))
    picture = folder / "ratios" / "figures" / "layers.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"a picture")
    return folder


def export(path, out, *words):
    words = ["export", path, "--no-verify", "--quiet", "--out", out, *words]
    return cli.main([str(word) for word in words])


def test_by_hand():
    layers = [keras.Input((2,)), keras.layers.Dense(1)]
    text = card.card(keras.Sequential(layers), "line", "mit", {}, None, False)
    head = yaml.safe_load(text.split("---\n")[1])
    tags = ["keras", "exemplar-normalization"]
    assert head == {"library_name": "keras", "license": "mit", "tags": tags}
    assert "# line\n" in text and "| parameters | 3 " in text
    assert "trained" not in text and "![" not in text


@pytest.mark.parametrize(
    "damaged",
    [
        *({"processes": [5]}, {"processes": None}, {"hardware": []}, {"versions": 3}),
        *({"metrics": {"top1": "x"}}, {"metrics": []}, {"recipe": [1]}),
    ],
)
def test_a_run_whose_file_is_damaged(run, tmp_path, damaged):
    for name in ("model.keras", "recipe.yaml"):
        shutil.copy(run / name, tmp_path)
    facts = json.loads((run / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**facts, **damaged}))
    model = keras.models.load_model(tmp_path / "model.keras")
    card.write_card(tmp_path / "hub", model, tmp_path / "model.keras", "mit")
    assert "## How it was trained" in (tmp_path / "hub" / "README.md").read_text()


def test_a_run(run, tmp_path):
    folder = tmp_path / "hub"
    words = ["--card", folder, "--license", "cc0-1.0"]
    assert export(run / "model.keras", tmp_path / "served", *words) == 0
    text = (folder / "README.md").read_text()
    _, header, body = re.split(r"^---$", text, flags=re.M)
    head = yaml.safe_load(header)
    assert head["license"] == "cc0-1.0" and head["datasets"] == ["cifar10"]
    assert head["pipeline_tag"] == "image-classification"
    [result] = head["model-index"][0]["results"]
    assert result["dataset"] == {"type": "cifar10", "name": "tfds:cifar10"}
    [metric] = result["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 0.875)
    for part in ("87.50%", "import keras_en", "hf://USER/NAME", "(ratios.png)"):
        assert part in body
    assert re.search(r"seconds +\| 60 ", body) and re.search(r"seed +\| 3 ", body)
    assert (folder / "ratios.png").read_bytes() == b"a picture"
    kaggle = json.loads((folder / "model-metadata.json").read_text())
    assert kaggle["description"] == body.lstrip("\n") and kaggle["isPrivate"] is True
    instance = json.loads((folder / "model-instance-metadata.json").read_text())
    assert instance["modelSlug"] == kaggle["slug"] == "cifar-resnet8-en"

    # As `hf://` does with the folder that it has downloaded.
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    again = keras.saving.load_model(folder)
    own = keras.saving.load_model(run / "model.keras")
    assert np.array_equal(again.predict(x, verbose=0), own.predict(x, verbose=0))


def test_what_is_there_stays(run, tmp_path, capsys):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "thesis.txt").write_text("kept")
    assert export(run / "model.keras", tmp_path / "served", "--card", folder) == 2
    assert "--card must be a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "served").exists()
