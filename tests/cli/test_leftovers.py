"""Exports that are ended, in real processes: what they leave, and who removes it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

from tests.cli.test_main import COMMAND

pytestmark = pytest.mark.tensorflow
# A guard, in seconds: nothing is measured.
GUARD = 120


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model, one for exports and one for temporary files."""
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(
        tmp_path / "m.keras"
    )
    for name in ("out", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


def exporting(place, *more):
    pipe = subprocess.PIPE
    words = [*COMMAND, "export", place / "m.keras", "--out", place / "out", *more]
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)


def await_(condition):
    end = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def helpers(place):
    """The processes that were started with a path below the folder, by number."""
    numbers = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:  # It has ended.
            continue
        if str(place / "tmp").encode() in words:
            numbers.append(int(path.parent.name))
    return numbers


def left(place):
    return [*(place / "out").iterdir(), *(place / "tmp").iterdir()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_terminated_and_killed(place):
    process = exporting(place)
    await_(lambda: helpers(place))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=GUARD)
    assert process.returncode == 143 and "Traceback" not in err
    assert err.splitlines()[-1] == "keras-en: terminated; nothing was written"
    await_(lambda: not helpers(place))
    assert left(place) == []

    process = exporting(place)
    await_(lambda: helpers(place))
    process.kill()
    process.communicate(timeout=GUARD)
    await_(lambda: not helpers(place))
    assert len(left(place)) == 2, "nobody could remove them"

    process = exporting(place, "--no-verify")
    out, err = process.communicate(timeout=GUARD)
    assert process.returncode == 0, err
    assert left(place) == [place / "out" / "1"]


# SIGTERM when Python imports TensorFlow.
AT_IMPORT = """
import os, signal, sys
sys.argv = ["keras-en", "models"]
class Finder:
    def find_spec(self, name, *_):
        if name == "tensorflow":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
from keras_en.cli import main
sys.exit(main())
"""


def test_terminated_while_it_imports():
    command = [sys.executable, "-c", AT_IMPORT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert done.stderr.splitlines()[-1] == "keras-en: terminated; nothing was written"
