"""The time of layers and networks on a GPU, beside what their programs move; JAX only.

    KERAS_BACKEND=jax python benchmarks/gpu.py --out FOLDER [--budget SECONDS]
    KERAS_BACKEND=jax python benchmarks/gpu.py --tables FOLDER

The first form writes `gpu.json` behind every part: whether the layer is right there,
then the time of a layer, and of whole networks. All programs are compiled in threads at
the start; nothing is timed before the last is done, or half of the budget is over. The
second form writes `results/gpu.md`.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import gpu_tables
import numpy as np
from clock import clock, say

# The oracle is one of the tests'.
sys.path.append(str(Path(__file__).parents[1]))

SHAPES = ["64x56x56x256", "32x14x14x1024"]
# EN without the kernels of `ops.kernels`. In inference only: a training step has the
# trace of the layer of the same shape before it.
PLAIN = "EN, plain head"
LAYERS = ["BN", "SN", "EN", PLAIN]
# Network, batch, job, and the norms; in order of worth.
NETWORKS = [
    ("ResNet-50", 64, "training", ["BN", "EN", "SN"]),
    ("ResNet-50", 64, "inference", ["BN", "EN", "SN"]),
    ("ResNet-20", 128, "training", ["BN", "EN", "SN"]),
    ("ResNet-50", 128, "training", ["BN", "EN", "SN"]),
    ("ResNet-50", 1, "inference", ["BN", "EN", "SN"]),
]
ROUNDS = 7
# Seconds of a timed block: the clock and the last wait are nothing beside it.
BLOCK = 0.08


class Job(NamedTuple):
    """A program to time."""

    subject: str  # the shape of a layer, or a network and its batch
    dtype: str
    job: str
    norm: str

    @property
    def is_layer(self):
        return not self.subject.startswith("ResNet")

    @property
    def name(self):
        return ", ".join(self)


def jobs(options):
    """All of them, in order of worth."""
    networks = [
        Job(f"{network}, batch {batch}", "bfloat16", job, norm)
        for network, batch, job, norms in NETWORKS
        for norm in norms
    ]
    layers = [
        Job(shape, dtype, job, norm)
        for shape in SHAPES
        for dtype in ("float32", "bfloat16")
        for job in ("training", "inference")
        for norm in LAYERS
        if norm != PLAIN or job == "inference"
    ]
    every = layers + networks
    return [job for job in every if all(word in job.name for word in options.only)]


def lowered(job):
    """To compile, and the shapes of its arguments."""
    import jax
    import programs
    from quick_weights import drawn_by_numpy

    from keras_en.ops import kernels

    norm = job.norm.split(",")[0]
    nowhere = None, None
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu), drawn_by_numpy():
        if job.is_layer:
            shape = tuple(map(int, job.subject.split("x")))
            program = programs.layer_program(norm, shape, job.dtype, job.job, nowhere)
        else:
            network, batch = job.subject.split(", batch ")
            build, (_, *image) = programs.NETWORKS[network]
            sized = {network: (build, (int(batch), *image))}
            with mock.patch.object(programs, "NETWORKS", sized):
                program = programs.network_program(
                    network, norm, job.dtype, job.job, nowhere
                )
    function, arguments = program
    without = mock.patch.object(kernels, "fits", lambda *_: False)
    with without if job.norm == PLAIN else contextlib.nullcontext():
        return jax.jit(function).lower(*arguments), arguments


def filled(shapes):
    """Arrays of these shapes on the device: small numbers above 0, labels of 0."""
    import jax

    rng = np.random.default_rng(0)
    pool = np.abs(rng.normal(size=1 << 20)).astype("float32") * 0.05 + 1e-3

    @jax.jit
    def enlarged(pool):
        def one(s):
            if not np.issubdtype(s.dtype, np.floating) and s.dtype != "bfloat16":
                return jax.numpy.zeros(s.shape, s.dtype)
            size = int(np.prod(s.shape))
            repeated = jax.numpy.tile(pool, -(-size // pool.size))[:size]
            return repeated.reshape(s.shape).astype(s.dtype)

        return jax.tree.map(one, shapes)

    return enlarged(pool)


def counted(text):
    """What the counter of `compiled.py` says about a program."""
    from hlo import kernels

    every = kernels(text)
    return {
        "bytes": sum(kernel.bytes for kernel in every),
        "kernels": len(every),
        "of ours": sum("pallas" in k.source + k.name for k in every),
    }


class Measuring:
    """All of it; what is measured so far is in `results`."""

    def __init__(self, options):
        self.options, self.pool = options, ThreadPoolExecutor(16)
        self.jobs, self.compiling, self.shapes = jobs(options), {}, {}
        self.results = {
            **gpu_tables.machine(),
            "right": [],
            "rows": {},
            "failures": {},
        }

    def write(self):
        self.results["seconds"] = clock()
        path = self.options.out / "gpu.json"
        path.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")

    def attempt(self, name, function, *arguments):
        """Its result; a failure is noted, and costs nothing else."""
        try:
            return function(*arguments)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:3000]
            self.results["failures"][name] = text
            say("failed:", name, text[:500])
            return None

    def compile_all(self):
        """Starts it: traced one after the other, compiled side by side."""
        for job in self.jobs:
            if clock() > self.options.budget * 0.4:
                self.results["failures"][job.name] = "no time to trace it"
                continue
            traced = self.attempt(job.name, lowered, job)
            if traced is not None:
                program, self.shapes[job] = traced
                self.compiling[job] = self.pool.submit(self._compile, job, program)
        say("traced", len(self.compiling), "programs")

    def _compile(self, job, program):
        started, processor = time.monotonic(), time.thread_time()
        compiled = program.compile()
        row = {
            "compiling": time.monotonic() - started,
            "compiling, processor": time.thread_time() - processor,
            **counted(compiled.as_text()),
        }
        self.results["rows"][job.name] = row
        if not job.is_layer:
            say("compiled", job.name, f"{row['compiling']:.1f} s, {row['kernels']}")
        return compiled

    def check(self):
        import gpu_right

        def errors(case):
            return self.attempt(str(case), gpu_right.errors, case)

        with ThreadPoolExecutor(4) as pool:
            for numbers in filter(None, pool.map(errors, gpu_right.CASES)):
                self.results["right"].append(numbers)
                say("right:", json.dumps(numbers))
        self.write()

    def wait(self):
        """Until all is compiled, or more than half of the time is over."""
        for job, future in self.compiling.items():
            left = max(0.1, self.options.budget * 0.6 - clock())
            self.attempt(job.name, future.result, left)
        running = sum(not future.done() for future in self.compiling.values())
        self.results["still compiling"] = running
        say("compiled; still at it:", running)
        self.write()

    def time_all(self):
        """Norms that differ in nothing else take turns."""
        import jax

        tiny = jax.jit(lambda x: x + 1)
        one = jax.numpy.zeros(8)
        call = {"dispatch": lambda: tiny(one)}
        self.results["dispatch"] = float(np.median(interleaved(call)["dispatch"]))
        order = sorted(self.jobs, key=lambda job: not job.is_layer)
        groups = {}
        for job in order:
            groups.setdefault(job[:3], []).append(job)
        for group in groups.values():
            if clock() > self.options.budget * 0.95:
                say("no time for", *group[0][:3])
                continue
            self.attempt(", ".join(group[0][:3]), self._time, group)
            self.write()

    def _time(self, group):
        calls = {}
        for job in group:
            future = self.compiling.get(job)
            if future is not None and future.done() and not future.exception():
                calls[job] = caller(future.result(), filled(self.shapes[job]))
        for job, times in interleaved(calls).items():
            row = self.results["rows"][job.name]
            row["times"] = times
            row["time"] = float(np.median(times))
            moved = row["bytes"] / row["time"] / 1e12
            say(f"{job.name}: {1e6 * row['time']:.1f} us, {moved:.2f} TB/s")


def caller(compiled, arguments):
    return lambda: compiled(*arguments)


def interleaved(calls):
    """Seconds a call of each, in several rounds, by blocks of many calls that are
    waited for once."""
    import jax

    def block(call, count):
        started = time.perf_counter()
        for _ in range(count):
            result = call()
        jax.block_until_ready(result)
        return (time.perf_counter() - started) / count

    counts = {}
    for name, call in calls.items():
        block(call, 2)
        counts[name] = max(2, min(2000, round(BLOCK / block(call, 3))))
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(block(call, counts[name]))
    return times


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--tables", type=Path, help="write the page of this folder")
    parser.add_argument("--budget", type=float, default=230, metavar="SECONDS")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    return parser.parse_args()


def main():
    options = parsed()
    if options.tables:
        return gpu_tables.write(options.tables)
    os.environ["KERAS_BACKEND"] = "jax"
    options.out.mkdir(parents=True, exist_ok=True)
    measuring = Measuring(options)
    for part in ("compile_all", "check", "wait", "time_all"):
        measuring.attempt(part, getattr(measuring, part))
        measuring.write()
        say("behind", part)
    # A program that is still being compiled would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
