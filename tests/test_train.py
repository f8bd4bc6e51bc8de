"""`keras-en train` in real processes, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_en import train
from tests.test_cli import keras_en

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parent.parent


def test_mirrored_then_resumed(tmp_path):
    folder = tmp_path / "run"
    command = ["train", "--output", folder, "--strategy", "mirrored", "--norm", "en"]
    code, out, err = keras_en(*command, "--epochs", 1, "--checkpoint-every", 5)
    assert code == 0, err
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(train.FILES)
    assert "Test accuracy: " in out and str(folder / "model.keras") in out

    code, _, err = keras_en(*command)
    assert code == 2
    assert "--resume goes on with it. Received: " in err

    # As a machine that lost power in the middle of a save leaves it.
    (folder / "checkpoint.partial").write_bytes(b"half")
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
    "arguments, environment, message",
    [
        (["--strategy", "multiworker"], {}, "TF_CONFIG must name"),
        (["--strategy", "multiworker"], {"TF_CONFIG": "{}"}, "Received: {}"),
        (["--replicas", "2"], {}, "`replicas` must be None but for"),
        (["--strategy", "two"], {}, "invalid choice: 'two'"),
        (["--checkpoint-every", "0"], {}, "at least 1. Received: 0"),
        (["--batch-size", "x"], {}, "at least 1. Received: x"),
        ([], {"KERAS_BACKEND": "jax"}, "needs the TensorFlow backend"),
    ],
)
def test_wrong_usage(tmp_path, arguments, environment, message):
    folder = tmp_path / "run"
    code, _, err = keras_en("train", "--output", folder, *arguments, **environment)
    assert code == 2
    assert message in err.splitlines()[-1], err
    assert not folder.exists()


def test_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    code, _, err = keras_en("train", "--output", tmp_path, "--resume")
    assert code == 2
    assert "which holds thesis.tex" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
