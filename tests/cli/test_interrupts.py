"""Commands interrupted at every stage, or whose reader is gone, in real processes."""

import gc
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_en import cli
from keras_en.cli import models
from tests.cli.test_main import COMMAND

pytestmark = pytest.mark.tensorflow


def started(*arguments):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def interrupted(process):
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, err


def test_by_hand(monkeypatch, capsys):
    def run(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "run", run)
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err == "\nkeras-en: interrupted; nothing was written\n"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_in_a_callback_whose_exceptions_are_ignored(monkeypatch, capsys, number, code):
    """As JAX has one for Python's garbage collection."""

    def callback(phase, info):
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), number)

    def run(options):
        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(30)

    monkeypatch.setattr(models, "run", run)
    # A process that was started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["models"]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert "nothing was written" in capsys.readouterr().err


# Ctrl-C when Python imports the module of this name for the first time.
AT_IMPORT = """
import os, signal, sys
# Started in the background, a process inherits that it ignores the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
awaited, sys.argv = sys.argv[1], ["keras-en", "models"]
class Finder:
    def find_spec(self, name, *_):
        if name == awaited:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from keras_en.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module", ["numpy", "tensorflow", "keras_en.layers", "keras_en.cli.main"]
)
def test_while_it_imports(module):
    command = [sys.executable, "-c", AT_IMPORT, module]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    # TensorFlow may have said something before.
    last = done.stderr.rstrip().splitlines()[-1]
    assert last == "keras-en: interrupted; nothing was written"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_training_after_its_first_epoch(tmp_path):
    process = started("train", "--output", tmp_path / "run", "--norm", "gn")
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            break
    code, err = interrupted(process)
    assert code == 130 and "Traceback" not in err
    last = err.rstrip().splitlines()[-1]
    assert last == "keras-en: interrupted; --resume goes on from the last checkpoint"


@pytest.mark.slow
def test_a_reader_that_leaves():
    process = started("models", "--norm", "bn")
    process.stdout.close()
    with process.stderr:
        err = process.stderr.read()
    assert process.wait() == 141 and "BrokenPipe" not in err and "Traceback" not in err
