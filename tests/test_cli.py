"""`keras-en` in real processes, as a user runs it."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_en import cli, export
from keras_en.quickstart import ARTEFACTS
from keras_en.training import digits
from keras_en.version import __version__

pytestmark = pytest.mark.tensorflow

COMMAND = [sys.executable, "-m", "keras_en.cli"]


def keras_en(*arguments, **environment):
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The main job, whole."""
    folder = tmp_path_factory.mktemp("main") / "runs" / "quickstart"
    code, out, err = keras_en("quickstart", "--output", folder)
    assert code == 0, err
    return folder, out


def test_quickstart_writes_every_artefact(run):
    folder, out = run
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(ARTEFACTS)
    assert [entry.name for entry in folder.parent.iterdir()] == ["quickstart"]
    for name in (
        "model.keras",
        "saved_model/1",
        "model.onnx",
        "ratios.png",
        "report.md",
    ):
        assert str(folder / name) in out


def test_quickstart_reaches_its_accuracy(run):
    folder, out = run
    test = digits(0)["test"]
    model = keras.models.load_model(folder / "model.keras")
    probabilities = model.predict(test.images, verbose=0)
    accuracy = (probabilities.argmax(1) == test.labels).mean()
    assert accuracy >= 0.97
    assert f"Test accuracy: {accuracy:.2%}" in out
    for outputs in (
        export.run_saved_model(folder / "saved_model" / "1", test.images),
        export.run_onnx(folder / "model.onnx", test.images),
    ):
        assert np.abs(outputs - probabilities).max() <= 1e-4


def test_quickstart_reports_what_it_did(run):
    folder, _ = run
    report = (folder / "report.md").read_text()
    for part in ("--norm en --seed 0 --epochs 30", "test accuracy", "ratios.png"):
        assert part in report
    assert report.count("_norm |") == 9, "a row of ratios a layer"
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,accuracy,loss") and len(rows) == 31


def test_a_run_is_kept_unless_overwritten(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    arguments = ["quickstart", "--output", str(folder), "--epochs", "1", "--norm", "gn"]
    assert cli.main(arguments) == 0
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(
        set(ARTEFACTS) - {"ratios.png"}
    ), "only EN has ratios"
    before = (folder / "report.md").read_text()
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert "must not hold a run already; --overwrite replaces it. Received:" in message
    assert (folder / "report.md").read_text() == before
    assert cli.main([*arguments, "--overwrite", "--seed", "5"]) == 0
    assert "--seed 5" in (folder / "report.md").read_text()

    (folder / "thesis.txt").write_text("kept")
    assert cli.main([*arguments, "--overwrite"]) == 2
    assert "which holds thesis.txt" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "kept"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_ctrl_c_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "quickstart", "--output", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    assert any(tmp_path.iterdir()), "it is writing somewhere"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; nothing was written" in err
    assert not any(tmp_path.iterdir())


def test_ctrl_c_while_replacing_keeps_the_old_run(tmp_path, monkeypatch):
    from pathlib import Path

    from keras_en import quickstart

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.md").write_text("old")

    def finish(work, *arguments):
        (work / "report.md").write_text("new")
        return {}

    original = Path.replace

    def interrupted(self, target):
        if self.name == "new":
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(quickstart, "_run", finish)
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quickstart.run(folder, overwrite=True)
    assert (folder / "report.md").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["quickstart", "--norm", "xn"], "choose from '?en'?, '?bn'?, '?gn'?"),
        (["quickstart", "--epochs", "0"], "at least 1. Received: 0"),
        (
            ["quickstart", "--seed", "-1"],
            "at least 0. Received: -1|expected one argument",
        ),
        (["quickstart", "--seed", "one"], "at least 0. Received: one"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    import re

    assert re.search(message, capsys.readouterr().err)


def test_an_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert cli.main(["quickstart", "--output", str(tmp_path / "file")]) == 2
    assert "--output must be a folder. Received:" in capsys.readouterr().err
    assert cli.main(["quickstart", "--output", str(tmp_path / "file" / "run")]) == 2
    assert capsys.readouterr().err.startswith("keras-en: error: ")
    assert (tmp_path / "file").read_text() == "kept"


def test_another_backend_is_refused(tmp_path):
    code, _, err = keras_en(
        "quickstart", "--output", tmp_path / "r", KERAS_BACKEND="jax"
    )
    assert code == 2
    assert "needs the TensorFlow backend. Received: KERAS_BACKEND=jax" in err
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, capsys, monkeypatch):
    from keras_en import quickstart

    monkeypatch.setattr(quickstart, "REQUIRED", ("sklearn", "no_such_package"))
    assert cli.main(["quickstart", "--output", str(tmp_path / "r")]) == 2
    assert (
        "needs no_such_package: pip install 'keras-en[all]'" in capsys.readouterr().err
    )


def test_version(capsys):
    started = time.perf_counter()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0 and time.perf_counter() - started < 60
    assert capsys.readouterr().out == f"keras-en {__version__}\n"
