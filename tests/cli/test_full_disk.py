"""Where files cannot be written: one line, exit code 2, and nothing that is half.

The limit of this process on the size of a file stands for a full disk: writers meet an
error of the same kind in the midst of a file.
"""

import contextlib
import json
import os
import subprocess
import sys

import keras
import pytest

from keras_en import cli, export, files
from keras_en.training.events import EventFile

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.tensorflow
LIMIT = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a model of few inputs and 20 kB of outputs, and its exports."""
    folder = tmp_path_factory.mktemp("whole")
    layers = [keras.layers.Dense(9), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(5000)])
    model.save(folder / "m.keras")
    export.export_saved_model(model, folder / "served")
    return folder


@contextlib.contextmanager
def full():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "words",
    [
        ("export", "MODEL", "--no-verify", "--out", "new/served"),
        ("export", "MODEL", "--no-verify", "--out", "new/m.onnx", "--to", "onnx"),
        ("convert", "MODEL", "--to", "en", "--out", "new.keras"),
        # The loaders, other processes, cannot write what they are asked.
        ("verify", "MODEL", "SERVED", "--batches", "1"),
    ],
    ids=lambda words: " ".join(words[:1] + words[-1:]),
)
def test_commands(whole, tmp_path, monkeypatch, capfd, words):
    places = {"MODEL": whole / "m.keras", "SERVED": whole / "served" / "1"}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    with full():
        code = cli.main([str(places.get(word, word)) for word in words])
    out, err = capfd.readouterr()
    assert code == 2 and "Traceback" not in err + out, err
    assert err.splitlines()[-1].startswith("keras-en: error: ")
    assert "File too large" in err.splitlines()[-1]
    assert "Written" not in out and not any(tmp_path.iterdir())


def test_a_report_comes_before_the_export(whole, tmp_path, monkeypatch, capfd):
    """Where there is no room for it, nothing is written."""
    monkeypatch.setattr(export.ParityReport, "to_markdown", lambda _: "x" * 2 * LIMIT)
    report = export.ParityReport("", "", "", {}, {}, {}, [])
    monkeypatch.setattr(export, "verify", lambda *_, **__: report)
    words = ["export", whole / "m.keras", "--out", tmp_path / "served"]
    words += ["--report", tmp_path / "r.md"]

    def limited(self, path, write=export.ParityReport.write):
        with full():
            write(self, path)

    monkeypatch.setattr(export.ParityReport, "write", limited)
    assert cli.main([str(word) for word in words]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == f"keras-en: error: {tmp_path}/r.md cannot be written: File too large"
    assert not any(tmp_path.iterdir())


def test_scalars_of_a_training_are_whole(tmp_path):
    """An event is in its file, or is not; the first one leaves no file."""
    long, short = {"a" * 2 * LIMIT: 1.0}, {"a" * (LIMIT // 3): 1.0}
    events = EventFile(tmp_path)
    with full(), pytest.raises(files.CannotWrite, match="tfevents.* cannot be written"):
        events.write(1, long)
    assert not any(tmp_path.iterdir())
    events.write(1, short)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    with full(), pytest.raises(files.CannotWrite):
        events.write(2, long)
    assert path.read_bytes() == before
    events.write(2, short)
    assert len(path.read_bytes()) > len(before)


def test_a_checkpoint_says_that_there_is_no_room(tmp_path):
    path, partial = tmp_path / "c.npz", tmp_path / "c.partial"
    files.write_whole(path, partial, lambda file: file.write(b"old"))
    with (
        full(),
        pytest.raises(files.CannotWrite, match="c.npz cannot be written"),
    ):
        files.write_whole(path, partial, lambda file: file.write(bytes(2 * LIMIT)))
    assert path.read_bytes() == b"old" and not partial.exists()


def test_a_training_leaves_whole_files(tmp_path, capfd):
    """What was complete before stays; the run goes on when there is room."""
    folder = tmp_path / "run"
    words = ["train", "digits", "--output", str(folder), "--limit-train", "40"]
    words += ["--norm", "bn", "--set", "statistics.momentum=0.9", "--quiet"]
    words += ["--resume", "--epochs"]

    def entries():
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in paths}

    with full():
        assert cli.main([*words, "1"]) == 2
    names = {path.name for path in entries() if "tfevents" not in path.name}
    assert names == {"recipe.yaml", "run.json"}
    assert cli.main([*words, "1"]) == 0
    before = entries()
    capfd.readouterr()
    with full():
        assert cli.main([*words, "2"]) == 2
    (line,) = [x for x in capfd.readouterr().err.splitlines() if "error: " in x]
    assert "cannot be written: File too large" in line
    after = entries()
    own = {path for path in after if "tfevents" in path.name}
    changed = {p.name for p in {*after} - own if after[p] != before.get(p)}
    assert changed == {"recipe.yaml", "run.json"} and {*before} <= {*after}
    json.loads((folder / "run.json").read_text())
    assert cli.main([*words, "2"]) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_no_room_for_what_is_printed():
    lines = [
        "from keras_en import cli",
        "from keras_en.cli import models",
        "models.run = print",
        "raise SystemExit(cli.main(['models']))",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    with open("/dev/full", "w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("keras-en: error: [Errno 28]")
