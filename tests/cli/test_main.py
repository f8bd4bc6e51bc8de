"""`keras-en` in real processes, as a user runs it."""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_en import cli, export
from keras_en.analysis import RatioHistory
from keras_en.cli import options, quickstart
from keras_en.cli.quickstart import ARTEFACTS
from keras_en.training import digits, report
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


def test_by_hand():
    assert options.integer(1, 9)("7") == 7
    assert options.number(0)("0.5") == 0.5
    assert options.listed(options.integer(1), "integers")("1,7") == [1, 7]
    assert options.size("2x3") == (2, 3) and options.size("4") == (4, 4)
    assert options.share("batch=0.9") == ("batch", 0.9)
    assert options.fact("n=[1, 2]") == ("n", [1, 2])
    with pytest.raises(argparse.ArgumentTypeError, match="1e.09. Received: -1"):
        options.number(0)("-1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The main job, whole."""
    folder = tmp_path_factory.mktemp("main") / "runs" / "quickstart"
    code, out, err = keras_en("quickstart", "--output", folder)
    assert code == 0, err
    return folder, out


@pytest.mark.slow
def test_quickstart_writes_every_artefact(run):
    folder, out = run
    names = {entry.name for entry in folder.iterdir()}
    assert names == {*ARTEFACTS} - {report.SAMPLES}
    assert [entry.name for entry in folder.parent.iterdir()] == ["quickstart"]
    for name in (
        "model.keras",
        "saved_model/1",
        "model.onnx",
        "ratios/report.html",
        "report.md",
    ):
        assert str(folder / name) in out
    pictures = {path.stem for path in (folder / "ratios" / "figures").iterdir()}
    assert {"classes", "epochs", "embedding", "images", "noise"} < pictures
    assert RatioHistory.load(folder / "ratios.npz").epochs[::6] == [0, 30]


@pytest.mark.slow
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


@pytest.mark.slow
def test_its_saved_model_needs_no_keras(run):
    folder, _ = run
    images = digits(0)["test"].images
    served = export.run_saved_model(folder / "saved_model" / "1", images)
    expected = keras.models.load_model(folder / "model.keras").predict(
        images, verbose=0
    )
    assert np.abs(served - expected).max() <= 1e-4


def test_quickstart_reports_what_it_did(run):
    folder, _ = run
    report = (folder / "report.md").read_text()
    for part in (
        "--norm en --seed 0 --epochs 30",
        "| top1 |",
        "ratios/report.html",
    ):
        assert part in report
    assert report.count("_norm |") == 9, "a row of ratios a layer"
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,accuracy,loss") and len(rows) == 31


@pytest.mark.slow
def test_a_run_stays_unless_overwritten(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    arguments = ["quickstart", "--output", str(folder), "--epochs", "1", "--norm", "gn"]
    assert cli.main(arguments) == 0
    names = {entry.name for entry in folder.iterdir()}
    ratios = {"ratios", "ratios.npz"}
    assert names == {*ARTEFACTS} - {report.SAMPLES} - ratios, "only EN has ratios"
    before = (folder / "report.md").read_text()
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert "must not hold a run already; --overwrite replaces it. Received:" in message
    assert (folder / "report.md").read_text() == before
    with monkeypatch.context() as patched:
        patched.setattr(quickstart, "write_run", finished)
        quickstart.quickstart(folder, overwrite=True)
    assert [entry.name for entry in folder.iterdir()] == ["report.md"]
    assert (folder / "report.md").read_text() == "new"

    (folder / "thesis.txt").write_text("kept")
    assert cli.main([*arguments, "--overwrite"]) == 2
    assert "which holds thesis.txt" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "kept"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "quickstart", "--output", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background of a script inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    assert any(tmp_path.iterdir()), "it is writing somewhere"
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted; nothing was written" in err
    assert not any(tmp_path.iterdir())


def finished(work, *arguments):
    """Stands for `quickstart.write_run`: training has its own tests."""
    (work / "report.md").write_text("new")
    return {}


@pytest.mark.parametrize("name", ["run", "new"])
@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_while_replacing_loses_nothing(tmp_path, monkeypatch, name, late):
    """A real signal, before and after each of the two renames."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.md").write_text("old")
    original = Path.replace

    def interrupted(self, target):
        here = name in (self.name, Path(target).name)
        if here and not late:
            os.kill(os.getpid(), signal.SIGINT)
        path = original(self, target)
        if here and late:
            os.kill(os.getpid(), signal.SIGINT)
        return path

    monkeypatch.setattr(quickstart, "write_run", finished)
    monkeypatch.setattr(Path, "replace", interrupted)
    quickstart.quickstart(folder, overwrite=True)
    assert (folder / "report.md").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_failing_replacement_keeps_the_old_run(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.md").write_text("old")
    original = Path.replace

    def failing(self, target):
        if self.name == "new":
            raise OSError("disk full")
        return original(self, target)

    monkeypatch.setattr(quickstart, "write_run", finished)
    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        quickstart.quickstart(folder, overwrite=True)
    assert (folder / "report.md").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_run_that_appears_meanwhile_stays(tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def slow(work, *arguments):
        folder.mkdir()
        (folder / "report.md").write_text("of someone else")
        return finished(work)

    monkeypatch.setattr(quickstart, "write_run", slow)
    with pytest.raises(FileExistsError, match="must not hold a run already"):
        quickstart.quickstart(folder)
    assert (folder / "report.md").read_text() == "of someone else"


def test_the_working_folder_is_refused_before_training(tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for output in (".", "..", "../work"):
        assert cli.main(["quickstart", "--output", output, "--overwrite"]) == 2
        message = capsys.readouterr().err
        assert "--output must be a" in message and "Received: " in message
    assert [entry.name for entry in tmp_path.iterdir()] == ["work"]


def test_a_link_leads_to_the_run(tmp_path, monkeypatch):
    folder, link = tmp_path / "run", tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.setattr(quickstart, "write_run", finished)
    for _ in range(2):
        quickstart.quickstart(link, overwrite=True)
        assert link.is_symlink() and (folder / "report.md").read_text() == "new"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["fly"], "invalid choice: 'fly'"),
        (["quickstart", "--norm", "xn"], "choose from '?en'?, '?sn'?, '?ssn'?"),
        (["quickstart", "--epochs", "0"], "at most 1000000000. Received: 0"),
        (
            ["quickstart", "--seed", "-1"],
            "Received: -1|expected one argument",
        ),
        (
            ["quickstart", "--seed", str(2**32)],
            "at most 4294967295. Received: 4294967296",
        ),
        (["quickstart", "--epochs", "9" * 5000], "at most 1000000000. Received: 999"),
        (["quickstart", "--seed", "one"], "at least 0 .*Received: one"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "words, code", [("recipes >&-", 0), ("recipes nobody 2>&-", 2), ("models <&-", 0)]
)
def test_streams_that_are_closed(words, code):
    command = f"{sys.executable} -m keras_en.cli {words}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == code and "Traceback" not in done.stderr


@pytest.mark.slow
def test_another_backend_is_refused(tmp_path):
    code, _, err = keras_en(
        "quickstart", "--output", tmp_path / "r", KERAS_BACKEND="jax"
    )
    assert code == 2
    assert "needs the TensorFlow backend. Received: KERAS_BACKEND=jax" in err
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quickstart, "REQUIRED", ("sklearn", "no_such_package"))
    assert cli.main(["quickstart", "--output", str(tmp_path / "r")]) == 2
    assert (
        "needs no_such_package: pip install 'keras-en[all]'" in capsys.readouterr().err
    )


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"keras-en {__version__}\n"
