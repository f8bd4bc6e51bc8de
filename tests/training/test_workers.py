"""Two worker processes of `MultiWorkerMirroredStrategy` that meet on 127.0.0.1."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "tests.training.worker"]
# A worker that hangs fails its test, not the suite.
LIMIT = 240


def cluster(size=2):
    """One `TF_CONFIG` a worker, on free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(size)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return [
        json.dumps(
            {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
        )
        for index in range(size)
    ]


def start(command, config=None, **kwargs):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if config is not None:
        environment["TF_CONFIG"] = config
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def finish(processes, limit=LIMIT):
    """Their outputs; kills what still runs after `limit` seconds."""
    try:
        outputs = []
        for process in processes:
            out, err = process.communicate(timeout=limit)
            outputs.append((process.returncode, out, err))
        return outputs
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


def train(folder, workers, *arguments):
    """Runs a worker, or two; what they saved."""
    files = [folder / f"{workers}-{i}.npz" for i in range(workers)]
    configs = cluster(workers) if workers > 1 else [None]
    more = ["--strategy", "multiworker"] if workers > 1 else []
    processes = [
        start([*COMMAND, str(file), *more, *arguments], config)
        for file, config in zip(files, configs, strict=True)
    ]
    for code, _, err in finish(processes):
        assert code == 0, err[-3000:]
    return [dict(np.load(file)) for file in files]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with the global batch."""
    (found,) = train(tmp_path_factory.mktemp("alone"), 1)
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return train(tmp_path_factory.mktemp("together"), 2)


def weights(found):
    return {name: value for name, value in found.items() if name.startswith("weight")}


def assert_equal(one, other, tolerance):
    assert weights(one).keys() == weights(other).keys() != set()
    for name, value in weights(one).items():
        scale = max(1, np.abs(value).max())
        assert np.abs(value - other[name]).max() <= tolerance * scale, name


def test_two_workers_are_one(alone, together):
    first, second = together
    assert first["chief"] and not second["chief"]
    assert_equal(first, second, 0)
    np.testing.assert_array_equal(first["loss"], second["loss"])
    assert_equal(first, alone, 1e-4)
    np.testing.assert_allclose(first["loss"], alone["loss"], rtol=1e-3)
    assert alone["loss"][-1] < 0.5 * alone["loss"][0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_resumed_is_one_that_was_not(tmp_path, request, workers):
    whole = request.getfixturevalue("alone" if workers == 1 else "together")
    whole = [whole] if workers == 1 else whole
    folder = tmp_path / "run"
    kept = ["--checkpoint", str(folder), "--every", "7"]
    more = ["--strategy", "multiworker"] if workers > 1 else []
    configs = cluster(workers) if workers > 1 else [None]
    processes = []
    for index, config in enumerate(configs):
        dies = ["--dies-at", "20"] if index == workers - 1 else []
        out = str(tmp_path / f"never-{index}.npz")
        processes.append(start([*COMMAND, out, *more, *kept, *dies], config))
    began = time.monotonic()
    outputs = finish(processes)
    assert outputs[-1][0] == -signal.SIGKILL
    if workers > 1:
        code, _, err = outputs[0]
        assert code not in (0, -signal.SIGKILL), "the survivor ends by itself"
        assert "A worker of the cluster is gone" in err, err[-3000:]
        assert time.monotonic() - began < LIMIT
    assert [entry.name for entry in folder.iterdir()] == ["checkpoint.npz"]

    resumed = train(tmp_path, workers, *kept, "--resume")
    for one, other in zip(resumed, whole, strict=True):
        assert_equal(one, other, 0)
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-6)


def two(tmp_path, *per_worker):
    """Two workers, each with arguments of its own."""
    return [
        start(
            [*COMMAND, str(tmp_path / f"{i}.npz"), "--strategy", "multiworker", *more],
            c,
        )
        for i, (c, more) in enumerate(zip(cluster(), per_worker, strict=True))
    ]


def test_a_worker_that_hangs(tmp_path):
    """It is stopped, not gone: its connections stay open."""
    first, second = two(
        tmp_path,
        ["--timeout", "20"],
        ["--timeout", "20", "--dies-at", "12", "--hangs"],
    )
    try:
        _, err = first.communicate(timeout=LIMIT)
    finally:
        second.kill()
        second.communicate()
    assert first.returncode not in (0, -signal.SIGKILL)
    assert "A worker of the cluster is gone or cannot be reached" in err, err[-3000:]


def test_workers_that_see_different_checkpoints(tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    kept = ["--resume", "--every", "7", "--checkpoint"]
    died = start([*COMMAND, str(tmp_path / "x"), "--dies-at", "9", *kept, str(here)])
    died.communicate(timeout=LIMIT)
    assert (here / "checkpoint.npz").exists()
    outputs = finish(two(tmp_path, [*kept, str(here)], [*kept, str(elsewhere)]))
    for code, _, err in outputs:
        assert code == 1
        assert "a folder that every worker can read" in err, err[-3000:]
