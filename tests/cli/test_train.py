"""`keras-en train` in real processes, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_en import cli
from keras_en.cli import train
from tests.cli.test_main import keras_en

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parents[2]


def test_a_folder_with_other_files(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert cli.main(["train", "--output", str(tmp_path), "--resume"]) == 2
    assert "which holds thesis.tex" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_mirrored_then_resumed(tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["train", "--output", folder, "--strategy", "mirrored", "--norm", "en"]
    code, out, err = keras_en(*command, "--epochs", 1, "--checkpoint-every", 5)
    assert code == 0, err
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(train.FILES)
    assert "Test accuracy: " in out and str(folder / "model.keras") in out

    assert cli.main(["train", "--output", str(folder)]) == 2
    assert "--resume goes on with it. Received: " in capsys.readouterr().err

    # As a machine that lost power in the middle of a save leaves it.
    (folder / "checkpoint.partial").write_bytes(b"torn")
    # Of one device: a checkpoint does not know how many replicas there were.
    command[command.index("mirrored")] = "none"
    code, out, err = keras_en(*command, "--epochs", 2, "--resume")
    assert code == 0, err
    assert "Epoch 2/2" in out and "Epoch 1/2" not in out
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(train.FILES)


def test_the_example_of_two_workers(tmp_path):
    folder = tmp_path / "run"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [ROOT / "examples" / "multi_worker.sh", "--epochs", "1", "--output", folder],
        env={**os.environ, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Test accuracy: ") == 1, "the chief prints"
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(train.FILES)


@pytest.mark.parametrize(
    "words, config, message",
    [
        ("--strategy multiworker", None, "TF_CONFIG must name"),
        ("--strategy multiworker", "{}", "Received: {}"),
        ("--replicas 2", None, "`replicas` must be None but for"),
        ("--strategy two", None, "invalid choice: 'two'"),
        ("--checkpoint-every 0", None, "at least 1. Received: 0"),
        ("--batch-size x", None, "at least 1. Received: x"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, words, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    folder = tmp_path / "run"
    try:
        code = cli.main(["train", "--output", str(folder), *words.split()])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    err = capsys.readouterr().err
    assert message in err.splitlines()[-1], err
    assert not folder.exists()


def test_another_backend(tmp_path):
    folder = tmp_path / "run"
    code, _, err = keras_en("train", "--output", folder, KERAS_BACKEND="jax")
    assert code == 2
    assert "needs the TensorFlow backend" in err.splitlines()[-1], err
    assert not folder.exists()
