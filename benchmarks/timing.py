"""Interleaved timing, and the head of every results file."""

import datetime
import gc
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


def interleave(calls, rounds, seconds=0.02):
    """Times every call in turn, `rounds` times over.

    Args:
        calls: Dictionary from name to a function that blocks until it is done.
        rounds: Rounds after the warm-up.
        seconds: A call shorter than this is repeated until it takes as long.

    Returns:
        Dictionary from name to seconds a call, `(rounds,)`. Entry `i` of every name
        was measured in the same round, so ratios of them are fair on a machine whose
        speed drifts.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        call()
        once = time.perf_counter() - started
        repeats[name] = max(1, round(seconds / max(once, 1e-6)))
    times = {name: [] for name in calls}
    names = list(calls)
    gc.collect()
    gc.disable()
    try:
        for i in range(rounds):
            # Whoever follows a large call finds a cold cache: take turns.
            for name in names[i % len(names) :] + names[: i % len(names)]:
                started = time.perf_counter()
                for _ in range(repeats[name]):
                    calls[name]()
                times[name].append((time.perf_counter() - started) / repeats[name])
    finally:
        gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def scaling(x):
    """A function that writes 1.5 `x` into memory that is there already, on all cores:
    one reading and one writing, the measure of a tensor pass.

    A framework's copy allocates its result, too, which can take longer than writing it.
    """
    x = np.ascontiguousarray(x).reshape(-1)
    parts = list(
        zip(
            np.array_split(x, os.cpu_count()),
            np.array_split(np.empty_like(x), os.cpu_count()),
            strict=True,
        )
    )
    pool = ThreadPoolExecutor(os.cpu_count())
    # NumPy lets go of the interpreter's lock meanwhile.
    return lambda: list(
        pool.map(lambda part: np.multiply(part[0], 1.5, part[1]), parts)
    )


def ratio(times, baseline):
    """The median over the rounds of `times / baseline`."""
    return float(np.median(times / baseline))


def geometric_mean(values):
    return float(np.exp(np.mean(np.log(list(values)))))


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


TIMED = [
    "- ratios are medians over interleaved rounds of one run; absolute times mean",
    "  little on a shared machine",
]


def write(name, title, lines, notes=TIMED):
    """Writes `results/<name>.md` with date, machine, versions and command."""
    packages = []
    for package in ("keras-en", "keras", "tensorflow", "jax", "numpy"):
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    command = " ".join([f"KERAS_BACKEND={backend} python", script, *sys.argv[1:]])
    head = [
        f"# {title}",
        "",
        f"- command: `{command}`",
        f"- date: {datetime.date.today()}",
        f"- machine: {processor()}, {os.cpu_count()} cores, {platform.system()}",
        f"- versions: Python {platform.python_version()}, {', '.join(packages)}",
        *notes,
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    path.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    print(path)
