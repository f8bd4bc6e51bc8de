"""The files that say what a run was."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_en import files
from keras_en.training import run_folder
from keras_en.training.recipes.recipe import load
from keras_en.training.run_folder import RunFolder, hardware


def facts(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_a_run_that_is_killed_and_resumed(tmp_path):
    folder = tmp_path / "new" / "run"
    recipe = load("digits", ["norm.name=bn"])
    RunFolder(folder).start(recipe, "keras-en train", 3)
    run = facts(folder)
    assert run["recipe"] == recipe.name and run["seed"] == 3
    assert (run["strategy"], run["replicas"]) == ("none", 1)
    assert run["dtype_policy"] == "float32"
    assert run["versions"]["keras"] == keras.__version__
    assert run["versions"]["numpy"] == np.__version__
    assert keras.backend.backend() in run["versions"]
    assert run["processes"][0]["ended"] is run["processes"][0]["seconds"] is None

    again = RunFolder(folder)
    again.start(recipe, "keras-en train --resume", 3, "mirrored", 2)
    seconds = again.finish({"loss": [0.5, 0.25], "val_loss": [1, 2]}, {"top1": 0.75})
    assert facts(folder)["metrics"] == {"top1": 0.75}
    first, second = facts(folder)["processes"]
    assert first["command"] == "keras-en train" and first["ended"] is None
    assert second["began"] <= second["ended"] and second["seconds"] == seconds >= 0
    assert facts(folder)["replicas"] == 2
    with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["epoch", "loss", "val_loss"],
        ["1", "0.5", "1"],
        ["2", "0.25", "2"],
    ]
    assert load(folder / "recipe.yaml") == recipe
    assert {path.name for path in folder.iterdir()} == {
        *("history.csv", "recipe.yaml", "run.json")
    }


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"processes": 3}', "\0"])
def test_a_file_of_something_else(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    RunFolder(tmp_path).start(load("digits"), "keras-en train", 0)
    assert len(facts(tmp_path)["processes"]) == 1


# What stands in the place of an entry of `run.json`, and what is read of it.
DAMAGED = {
    "processes": [
        *((None, None), (3, None), ([5], []), ([None, {}], [{"seconds": None}])),
        ([{"seconds": "x"}, {"seconds": 2.5}], [{"seconds": None}, {"seconds": 2.5}]),
    ],
    "hardware": [
        *((None, None), ([], None), ({"devices": 1}, None)),
        ({"processor": 7}, {"processor": "7"}),
    ],
    "versions": [(None, None), (["3.15"], None), ({"keras": 3}, {"keras": "3"})],
    "metrics": [(None, None), ({"top1": None}, None), ({"top1": 10**400}, None)],
    "class_names": [(None, None), ("ab", None), ([1, "b"], ["1", "b"])],
    "recipe": [({}, None)],
    "seed": [("0", None), (True, None)],
    "dtype_policy": [(None, None), (3, None)],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_not_there(tmp_path, name):
    recipe = load("digits")
    for value, expected in DAMAGED[name]:
        RunFolder(tmp_path).start(recipe, "keras-en train", 0)
        whole = facts(tmp_path)
        (tmp_path / "run.json").write_text(json.dumps({**whole, name: value}))
        assert run_folder.facts(tmp_path).get(name) == expected
        again = RunFolder(tmp_path)
        again.start(recipe, "keras-en train --resume", 0)
        last = facts(tmp_path)["processes"][-1]
        assert last["command"] == "keras-en train --resume"
        assert again.finish({"loss": [0.5]}, {"top1": 0.5}) >= 0
        assert run_folder.metrics(tmp_path / "run.json") == {"top1": 0.5}
        (tmp_path / "run.json").unlink()


def test_no_text_is_a_fault(tmp_path):
    for data in (b"\xff", b"[" * 10**5, b"null", b'{"metrics": "x"}'):
        (tmp_path / "run.json").write_bytes(data)
        assert run_folder.facts(tmp_path) == {}
        assert run_folder.class_names(tmp_path) is None
        assert run_folder.metrics(tmp_path / "run.json") is None


def test_a_full_disk_leaves_what_was(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.start(load("digits"), "keras-en train", 0)
    before = facts(tmp_path)

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Staged, "publish", full)
    with pytest.raises(files.CannotWrite, match="history.csv cannot be written"):
        run.finish({"loss": [0.5]}, {})
    assert facts(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml", "run.json"}


def test_hardware():
    here = hardware()
    assert here["cpu_count"] >= 1 and here["devices"]
    assert all(isinstance(name, str) for name in [here["processor"], *here["devices"]])
