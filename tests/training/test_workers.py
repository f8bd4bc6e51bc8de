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

from tests.training.networks import assert_close

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "tests.training.worker"]
# A worker that hangs fails its test, not the suite.
LIMIT = 240


def cluster(size):
    """One `TF_CONFIG` a worker, on free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(size)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    config = {"cluster": {"worker": addresses}}
    tasks = [{"type": "worker", "index": index} for index in range(size)]
    return [json.dumps({**config, "task": task}) for task in tasks]


def output(folder, workers, index):
    return folder / f"{workers}-{index}.npz"


def start(folder, *arguments):
    """Starts a worker for each list of arguments: one alone, or several that meet."""
    processes = []
    for index, config in enumerate(cluster(len(arguments))):
        path = output(folder, len(arguments), index)
        command = [*COMMAND, str(path), *arguments[index]]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if len(arguments) > 1:
            command += ["--strategy", "multiworker"]
            environment["TF_CONFIG"] = config
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    return processes


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
    for code, _, err in finish(start(folder, *[arguments] * workers)):
        assert code == 0, err[-3000:]
    return [dict(np.load(output(folder, workers, index))) for index in range(workers)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process with the global batch."""
    return train(tmp_path_factory.mktemp("alone"), 1)[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return train(tmp_path_factory.mktemp("together"), 2)


def assert_equal(one, other, tolerance):
    """Of what two workers saved, the weights."""
    one, other = (
        {name: value for name, value in saved.items() if name.startswith("weight")}
        for saved in (one, other)
    )
    assert_close(one, other, tolerance)


def test_two_workers_are_one(alone, together):
    first, second = together
    assert first["chief"] and not second["chief"]
    assert_equal(first, second, 0)
    np.testing.assert_array_equal(first["loss"], second["loss"])
    assert_equal(first, alone, 1e-6)
    np.testing.assert_allclose(first["loss"], alone["loss"], rtol=1e-6)
    assert alone["loss"][-1] < 0.5 * alone["loss"][0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_resumed_is_one_that_was_not(tmp_path, request, workers):
    alone = workers == 1
    whole = request.getfixturevalue("alone" if alone else "together")
    whole = [whole] if alone else whole
    folder = tmp_path / "run"
    checkpoint = ["--checkpoint", str(folder), "--every", "7"]
    began = time.monotonic()
    survivors = [checkpoint] * (workers - 1)
    outputs = finish(start(tmp_path, *survivors, [*checkpoint, "--dies-at", "20"]))
    assert outputs[-1][0] == -signal.SIGKILL
    if workers > 1:
        code, _, err = outputs[0]
        assert code not in (0, -signal.SIGKILL), "the survivor ends by itself"
        assert "A worker of the cluster is gone" in err, err[-3000:]
        assert time.monotonic() - began < LIMIT
    assert [entry.name for entry in folder.iterdir()] == ["checkpoint.npz"]

    resumed = train(tmp_path, workers, *checkpoint, "--resume")
    for one, other in zip(resumed, whole, strict=True):
        assert_equal(one, other, 0)
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-6)


def test_a_worker_that_hangs(tmp_path):
    """It is stopped, not gone: its connections stay open."""
    timeout = ["--timeout", "20"]
    first, second = start(tmp_path, timeout, [*timeout, "--dies-at", "12", "--hangs"])
    try:
        _, err = first.communicate(timeout=LIMIT)
    finally:
        second.kill()
        second.communicate()
    assert first.returncode not in (0, -signal.SIGKILL)
    assert "A worker of the cluster is gone or cannot be reached" in err, err[-3000:]


def test_workers_that_see_different_checkpoints(tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    resume = ["--resume", "--every", "7", "--checkpoint"]
    finish(start(tmp_path, ["--dies-at", "9", *resume, str(here)]))
    assert (here / "checkpoint.npz").exists()
    outputs = finish(start(tmp_path, [*resume, str(here)], [*resume, str(elsewhere)]))
    for code, _, err in outputs:
        assert code == 1
        assert "a folder that every worker can read" in err, err[-3000:]
