"""The page about a run of `gpu.py`, from its numbers."""

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
# Bytes a second, of an H100 SXM's memory.
BANDWIDTH = 3.35e12
NORMS = ["BN", "SN", "EN", "EN, plain head"]
SIZES = {"float32": 4, "bfloat16": 2}
PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "keras", "numpy")


def machine():
    """What a result is worth nothing without."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    query = "--query-gpu=name,driver_version,memory.total"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        card = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        card = ""
    return {
        "card": card or "none",
        "cores": os.cpu_count(),
        "versions": versions,
        "date": str(datetime.date.today()),
        "arguments": sys.argv[1:],
        "flags": os.environ.get("XLA_FLAGS", ""),
    }


def head(results, script):
    """The lines that say where a result comes from."""
    versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
    command = " ".join([f"KERAS_BACKEND=jax python {script}", *results["arguments"]])
    flags = results["flags"]
    return [
        f"- command: `{command}`",
        *([f"- `XLA_FLAGS`: `{flags}`"] if flags else []),
        f"- date: {results['date']}",
        f"- machine: {results['card']}, {results['cores']} cores",
        f"- versions: {versions}",
    ]


def parsed(results):
    """`{(subject, dtype, job): {norm: row}}` of what was timed."""
    groups = {}
    for name, row in results["rows"].items():
        parts = name.split(", ")
        # A network has its batch in its name, a norm may have a comma, too.
        length = 2 if parts[1].startswith("batch") else 1
        subject, (dtype, job, *norm) = ", ".join(parts[:length]), parts[length:]
        groups.setdefault((subject, dtype, job), {})[", ".join(norm)] = row
    return groups


def _cells(norms, cell):
    return " | ".join(cell(norms[n]) if n in norms else "" for n in NORMS)


def _time(base, unit):
    def cell(row):
        if "time" not in row:
            return "not run"
        ratio = row["time"] / base if base else float("nan")
        return f"{row['time'] * unit:.1f} ({ratio:.2f})"

    return cell


def _layers(groups):
    lines = [
        "| layer | " + " | ".join(NORMS) + " | passes, kernels: BN | EN | "
        "TB/s: BN | EN | EN, share of 3.35 TB/s |",
        "|---" * (len(NORMS) + 6) + "|",
    ]
    for (subject, dtype, job), norms in groups.items():
        if subject.startswith("ResNet"):
            continue
        tensor = SIZES[dtype]
        for size in subject.split("x"):
            tensor *= int(size)
        base = norms.get("BN", {}).get("time")
        cells = [_cells(norms, _time(base, 1e6))]
        for norm in ("BN", "EN"):
            row = norms.get(norm)
            cells.append(
                f"{row['bytes'] / tensor:.1f}, {row['kernels']}" if row else ""
            )
        speeds = [_bandwidth(norms.get(norm, {})) for norm in ("BN", "EN")]
        cells += [f"{speed / 1e12:.2f}" if speed else "" for speed in speeds]
        cells.append(f"{speeds[1] / BANDWIDTH:.0%}" if speeds[1] else "")
        lines.append(f"| {subject}, {dtype}, {job} | {' | '.join(cells)} |")
    return lines


def _bandwidth(row):
    return row["bytes"] / row["time"] if "time" in row else None


def _networks(groups):
    lines = ["| network | " + " | ".join(NORMS) + " |", "|---" * (len(NORMS) + 1) + "|"]
    for (subject, dtype, job), norms in groups.items():
        if not subject.startswith("ResNet"):
            continue
        name = f"{subject}, {dtype}, {job}"
        batch = int(subject.split("batch ")[1])
        base = norms.get("BN", {}).get("time")
        rows = {
            "milliseconds (over BN's)": _time(base, 1e3),
            "images a second": lambda r, batch=batch: (
                f"{batch / r['time']:,.0f}" if "time" in r else "not run"
            ),
            "kernels": lambda row: f"{row['kernels']:,}",
            "GB moved, as compiled": lambda row: f"{row['bytes'] / 1e9:.1f}",
            "compiling beside the others, s": lambda row: f"{row['compiling']:.0f}",
        }
        for title, cell in rows.items():
            lines.append(f"| {name}: {title} | {_cells(norms, cell)} |")
    return lines


def _right(results):
    lines = [
        "| input | type | | kernels | outputs | ratios | dx | weights, the worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["right"]:
        case, errors = row["case"], dict(row["errors"])
        named = [errors.pop(name) for name in ("outputs", "ratios", "dx")]
        shape = "x".join(map(str, case["shape"]))
        state = "training" if case["training"] else "inference"
        state += ", mask" if case["masked"] else ""
        cells = [f"{error:.1e}" for error in [*named, max(errors.values())]]
        kernels = "yes" if row["kernels"] else "no"
        lines.append(
            f"| {shape} | {case['dtype']} | {state} | {kernels} | {' | '.join(cells)} |"
        )
    return lines


def page(results):
    """The lines of the page."""
    groups = parsed(results)
    return [
        "# On a GPU: a layer and whole networks, JAX",
        "",
        *head(results, "benchmarks/gpu.py"),
        "- times are medians of rounds in which the norms take turns, of blocks of "
        "many calls that are waited for once",
        _dispatch(results),
        f"- programs still being compiled while others were timed: "
        f"{results.get('still compiling', 'all')}",
        "",
        "## Right",
        "",
        "Largest difference over the largest number: outputs and ratios against the "
        "oracle in float64, gradients against it (4x4x3x8) or the plain form on the "
        'CPU in float32. "Kernels": whether the program has those of '
        "`keras_en/ops/kernels.py`.",
        "",
        *_right(results),
        "",
        "## A layer",
        "",
        "Microseconds, and over BN's in brackets. Passes over the tensor and kernels "
        "are those of the compiled program; TB/s: these passes over the time.",
        "",
        *_layers(groups),
        "",
        "## Networks",
        "",
        *_networks(groups),
        "",
        *[f"- not run: {name}: {text[:200]}" for name, text in _failures(results)],
    ]


def _dispatch(results):
    if "dispatch" not in results:
        return "- nothing was timed"
    shortest = 1e6 * results["dispatch"]
    return (
        f"- a call of a program that does nothing takes {shortest:.1f} microseconds: "
        "nothing here can be shorter"
    )


def _failures(results):
    failures = results["failures"].items()
    return [(name, text.replace("\n", " ")) for name, text in failures]


def write(folder, path=RESULTS / "gpu.md"):
    """The page of the numbers in a folder."""
    text = (Path(folder) / "gpu.json").read_text(encoding="utf-8")
    path.write_text("\n".join(page(json.loads(text))).strip() + "\n", encoding="utf-8")
    print(path)
