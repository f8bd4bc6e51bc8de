"""What XLA's compilers for GPU and TPU make of a layer and of whole networks, counted;
no GPU or TPU is needed, and no clock is read but for the time of compiling.

    python benchmarks/compiled.py [--targets T ...] [--only WORD ...] [--again]
    python benchmarks/compiled.py --print h100 EN training float32 64x56x56x256

The second form prints every kernel of one program. A target is "h100", a TPU's topology
("v5e:2x2", "v6e:2x2") or a file that describes a GPU (`*.txtpb`, from the sources of
XLA). Every program is compiled in a process of its own; rows of
`results/compiled.json` that are there already stay, unless `--again`, so that a run can
go on where the last one ended. `--only` takes rows whose names hold all words. Writes
`results/compiled.md`. `make compiled` installs what it needs.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from unittest import mock

import compiled_tables
import targets
import timing
from compiled_rows import LAYER_NORMS, NETWORK_NORMS, Row, rows

STORE = timing.RESULTS / "compiled.json"
ROUNDS = 3
ENOUGH = 10  # seconds of compiling


def lowered(row, norm, shardings):
    import jax
    import keras
    import programs

    from keras_en.ops import tracing

    if row.is_layer:
        program = programs.layer_program(norm, row.shape, row.dtype, row.job, shardings)
    else:
        program = programs.network_program(
            row.subject, norm, row.dtype, row.job, shardings
        )
    function, arguments = program
    # Layers ask the backend for its devices, and here it has a CPU alone.
    platform = "tpu" if ":" in row.target else "gpu"
    spread = row.devices > 1 or keras.distribution.distribution()
    with (
        mock.patch.object(tracing, "platform", lambda: platform),
        mock.patch.object(keras.distribution, "distribution", lambda: spread or None),
        targets.described() if platform == "gpu" else contextlib.nullcontext(),
    ):
        return jax.jit(function).lower(*arguments)


def count(row, compiled):
    """The numbers of a compiled program."""
    from frames import Frames
    from hlo import kernels

    text = compiled.as_text()
    frames, sources = Frames(text), {}
    every = kernels(text)
    for kernel in every:
        name = frames.origin(kernel.frame, "keras_en", "normalization")
        number, size = sources.get(name, (0, 0))
        sources[name] = number + 1, size + kernel.bytes
    return {
        "bytes": sum(kernel.bytes for kernel in every),
        "kernels": len(every),
        "collectives": sum(kernel.is_collective for kernel in every),
        "temporary": compiled.memory_analysis().temp_size_in_bytes,
        "sources": sources if row.is_layer else {},
    }


def measure(row, norms):
    """`{norm: numbers}`; of a layer the norms take turns, a few times."""
    shardings = targets.shardings(row.target, row.devices)
    numbers = {}
    if row.is_layer:
        # What the compiler does once a process is nobody's time.
        lowered(row, norms[0], shardings).compile()
    spent = 0
    for _ in range(ROUNDS if row.is_layer else 1):
        for norm in norms:
            program = lowered(row, norm, shardings)
            # Of the processor: how busy the machine is else does not matter.
            started = time.process_time()
            compiled = program.compile()
            seconds = time.process_time() - started
            numbers.setdefault(norm, {**count(row, compiled), "seconds": []})
            numbers[norm]["seconds"].append(seconds)
            spent += seconds
        if spent > ENOUGH:
            break
    return numbers


def in_process(row, norms):
    """The same in a process of its own; empty if it fails."""
    command = [sys.executable, __file__, "--measure", json.dumps(row)]
    command.append(json.dumps(norms))
    backend = {**os.environ, "KERAS_BACKEND": row.backend}
    done = subprocess.run(command, capture_output=True, text=True, env=backend)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr, flush=True)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def print_kernels(target, norm, job, dtype, shape):
    from frames import Frames
    from hlo import kernels

    row = Row(target, shape, dtype, job)
    os.environ["KERAS_BACKEND"] = row.backend  # Keras is not imported yet
    compiled = lowered(row, norm, targets.shardings(target, row.devices)).compile()
    text = compiled.as_text()
    frames = Frames(text)
    for one in kernels(text):
        read, written = one.read / row.tensor, one.written / row.tensor
        origin = frames.origin(one.frame, "keras_en", "normalization")
        print(f"{read:8.4f} {written:8.4f}  {one.name:35} {origin}")
    numbers = count(row, compiled)
    print(
        f"{numbers['kernels']} kernels, {numbers['bytes'] / row.tensor:.3f} passes, "
        f"{numbers['temporary'] / row.tensor:.3f} tensors of temporary memory"
    )


def residuals():
    """`{dtype: {norm: tensors}}` that the backward pass needs."""
    import programs

    row = rows("h100")[0]
    return {
        dtype: {
            norm: programs.residuals(norm, row.shape, dtype)
            / row._replace(dtype=dtype).tensor
            for norm in LAYER_NORMS
        }
        for dtype in ("float32", "bfloat16")
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=list(targets.TARGETS))
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--again", action="store_true", help="rows that are there, too")
    parser.add_argument(
        "--print", nargs=5, metavar=("TARGET", "NORM", "JOB", "DTYPE", "SHAPE")
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    targets.prepare()
    if options.print:
        return print_kernels(*options.print)
    if options.measure:
        row, norms = map(json.loads, options.measure)
        return print(json.dumps(measure(Row(*row), norms)))
    table = json.loads(STORE.read_text()) if STORE.is_file() else {}
    is_failed = False
    every = [row for target in options.targets for row in rows(target)]
    for row in every:
        if not all(word in row.name for word in options.only):
            continue
        # A network takes minutes: what is there stays, norm by norm.
        for norms in [LAYER_NORMS] if row.is_layer else [[n] for n in NETWORK_NORMS]:
            numbers = table.setdefault(row.name, {})
            if options.again or not set(norms) <= set(numbers):
                print(row.name, *norms, flush=True)
                measured = in_process(row, norms)
                is_failed |= not measured
                numbers |= measured
                STORE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    compilers = ("jaxlib", "jax-cuda12-plugin", "libtpu")
    compiled_tables.write(
        {name: numbers for name, numbers in table.items() if numbers},
        residuals(),
        [f"{name} {version(name)}" for name in compilers],
    )
    return int(is_failed)


if __name__ == "__main__":
    sys.exit(main())
