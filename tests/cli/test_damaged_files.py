"""Damaged and hostile files end a command with one line, and leave nothing behind.

60 files, drawn by seed; `KERAS_EN_TEST_DAMAGED=200` draws as many.
"""

import contextlib
import json
import os
import shutil
import signal

import keras
import numpy as np
import onnx
import pytest

from keras_en import cli, export
from keras_en.export import facts
from tests.export.networks import randomized

pytestmark = pytest.mark.tensorflow

COUNT = int(os.environ.get("KERAS_EN_TEST_DAMAGED", "60"))
SEEDS = range(-(-COUNT // 3))
# A guard against a command that does not end, on a busy machine; seconds.
HANG = 240
# In place of any part of a record.
VALUES = (None, [], [None], {}, {"a": None}, "a\x1b[31m\0", "", 0, -1, 10**30, 1e999)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a model, and what was exported of it."""
    keras.utils.set_random_seed(0)
    folder, layers = tmp_path_factory.mktemp("whole"), keras.layers
    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 3, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="net")
    randomized(model).save(folder / "m.keras")
    export.export_onnx(model, folder / "m.onnx")
    export.export_saved_model(model, folder / "served")
    return folder


def damaged(data, rng):
    """Bytes with one of the faults that disks, networks and attackers make."""
    data = bytearray(data)
    kind = rng.choice(
        ["bits", "cut", "nul", "swap", "empty"], p=[0.5, 0.2, 0.1, 0.1, 0.1]
    )
    start, end = sorted(rng.integers(0, len(data), 2).tolist())
    if kind == "bits":
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == "cut":
        del data[start:]
    elif kind == "nul":
        data[start:end] = bytes(end - start)
    elif kind == "swap":
        data = data[start:] + data[:start]
    else:
        data.clear()
    return bytes(data)


def of_other_kinds(record, rng):
    """A record with a value of another kind somewhere, or in its place."""
    value = VALUES[rng.integers(len(VALUES))]
    places = [record] + [v for v in record.values() if isinstance(v, dict) and v]
    place = places[rng.integers(len(places))]
    if rng.random() < 0.1:
        return value
    names = [*place, "path", "model"]
    place[names[rng.integers(len(names))]] = value
    return record


def with_metadata(path, rng):
    """Damages what an ONNX file says about itself."""
    proto = onnx.load(str(path))
    entry = proto.metadata_props[rng.integers(len(proto.metadata_props))]
    entry.value = json.dumps(VALUES[rng.integers(len(VALUES))])
    if rng.random() < 0.3:
        entry.value = "[" * 10**5
    path.write_bytes(proto.SerializeToString())


@contextlib.contextmanager
def ending():
    """Fails what takes too long."""

    def late(*_):
        raise AssertionError(f"it has not ended after {HANG} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def entries(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def checked(folder, capfd, *arguments, new=None):
    """Runs a command, which may do what it is asked, or say in a line why not."""
    before = entries(folder)
    capfd.readouterr()
    with ending():
        code = cli.main([str(word) for word in arguments])
    printed = capfd.readouterr()
    assert code in (0, 1, 2), printed.err
    assert "Traceback" not in printed.out + printed.err
    if code == 2:
        said = [n for n in printed.err.splitlines() if n.startswith("keras-en: ")]
        assert len(said) == 1 and said[0] == printed.err.splitlines()[-1], printed.err
    assert not set("\x1b\0\x07") & set(printed.out + printed.err)
    if new is not None and new.exists():
        assert code == 0
        shutil.rmtree(new) if new.is_dir() else new.unlink()
    assert entries(folder) == before
    return code


@pytest.mark.parametrize("seed", SEEDS)
def test_keras_files(whole, tmp_path, capfd, seed):
    rng = np.random.default_rng(seed)
    path, out = tmp_path / "m.keras", tmp_path / "new.keras"
    path.write_bytes(damaged((whole / "m.keras").read_bytes(), rng))
    checked(tmp_path, capfd, "convert", path, "--out", out, new=out)
    verify = ("--no-verify",) if seed % 5 else ("--batches", "1")
    for to, new in (("onnx", tmp_path / "m.onnx"), ("saved_model", tmp_path / "s")):
        if seed % 2 == (to == "onnx"):
            command = ("export", path, "--to", to, "--out", new, *verify)
            checked(tmp_path, capfd, *command, new=new)
    if seed % 4 == 0:
        checked(tmp_path, capfd, "verify", path, whole / "m.onnx", "--batches", "1")


@pytest.mark.parametrize("seed", SEEDS)
def test_onnx_files(whole, tmp_path, capfd, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "m.onnx"
    path.write_bytes((whole / "m.onnx").read_bytes())
    if seed % 2:
        with_metadata(path, rng)
    else:
        path.write_bytes(damaged(path.read_bytes(), rng))
    code = checked(tmp_path, capfd, "inspect", path)
    assert checked(tmp_path, capfd, "inspect", path, "--json") == code
    checked(tmp_path, capfd, "verify", whole / "m.keras", path, "--batches", "1")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_saved_models(whole, tmp_path, capfd, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "1"
    shutil.copytree(whole / "served" / "1", path)
    if seed % 2:
        file = path / facts.FILE
        record = of_other_kinds(json.loads(file.read_text()), rng)
        file.write_text(json.dumps(record))
    else:
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.stat().st_size)
        graph = path / "saved_model.pb"
        file = graph if seed % 4 else files[rng.integers(len(files))]
        file.write_bytes(damaged(file.read_bytes(), rng))
    code = checked(tmp_path, capfd, "inspect", path)
    assert checked(tmp_path, capfd, "inspect", path, "--json") == code
    # Three processes a comparison.
    if code == 0 and seed % 17 == 5:
        checked(tmp_path, capfd, "verify", whole / "m.keras", path, "--batches", "1")
