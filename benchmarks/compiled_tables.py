"""The tables of `compiled.py`, written from what it counted."""

import numpy as np
import targets
import timing
from compiled_rows import (
    BY_TENSORFLOW,
    JOBS,
    LAYER_NORMS,
    NETWORK_NORMS,
    ON_DEVICES,
    SHAPES,
    Row,
)

BASELINE = "BN"
NOTES = [
    "- from programs that the compilers of XLA optimized; nothing ran, no GPU or TPU",
    "  was there. Autotuning needs the device: it is off",
    "- a run adds rows to those of earlier runs; the norms of a layer's row are of",
    "  one run",
    "- passes: bytes that kernels read and write, over those of the tensor. A TPU's",
    "  memory on the chip (128 MB on v5e) is not counted: a tensor that fits may stay",
    "- training: forward, all gradients and moving statistics in one program. In a",
    "  network: dy depends on y, so that no kernel writes y and reads dy",
    "- by TensorFlow: what TensorFlow makes of the layer, its HLO handed to the same",
    "  compilers; for a TPU its wheel writes none: it has no kernels of `XLA_TPU_JIT`",
    "- compiling: processor time of the compiler over BatchNormalization's in the same",
    "  run, in turns; tracing is not in it",
]


def heading(columns):
    return ["| " + " | ".join(["", *columns]) + " |", "|---" * (len(columns) + 1) + "|"]


def line(name, cells):
    return "| " + " | ".join([name, *cells]) + " |"


def compile_ratio(numbers, norm):
    times = [np.array(numbers[name]["seconds"]) for name in (norm, BASELINE)]
    return timing.ratio(*times)


def layer_rows(table, target):
    """`(row, numbers)` of one layer, by job."""
    rows = [Row(*name.split(", ")) for name in table]
    rows = [row for row in rows if row.target == target and row.is_layer]
    order = [*JOBS, ON_DEVICES, *BY_TENSORFLOW]
    rows.sort(key=lambda row: (order.index(row.job), SHAPES.index(row.subject)))
    return [(row, table[row.name]) for row in rows]


def passes(rows):
    lines = heading(LAYER_NORMS)
    for row, numbers in rows:
        cells = [
            f"{numbers[norm]['bytes'] / row.tensor:.1f} ({numbers[norm]['kernels']})"
            for norm in LAYER_NORMS
        ]
        lines.append(line(f"{row.job}, {row.dtype}, {row.subject}", cells))
    return lines


def collectives(rows):
    lines = heading(LAYER_NORMS)
    for row, numbers in rows:
        if row.job == ON_DEVICES:
            cells = [str(numbers[norm]["collectives"]) for norm in LAYER_NORMS]
            lines.append(line(f"{row.job}, {row.dtype}, {row.subject}", cells))
    return lines


def costs(rows):
    lines = heading(LAYER_NORMS)
    for row, numbers in rows:
        cells = [
            f"{numbers[norm]['temporary'] / row.tensor:.2f}; "
            f"{compile_ratio(numbers, norm):.1f} x"
            for norm in LAYER_NORMS
        ]
        lines.append(line(f"{row.job}, {row.dtype}, {row.subject}", cells))
    return lines


def networks(table, target):
    columns = ["bytes of BN, GB", "EN", "kernels of BN", "EN"]
    columns += ["temporary memory of BN, GB", "EN", "compiling: EN"]
    lines = heading(columns)
    for name, numbers in table.items():
        row = Row(*name.split(", "))
        if row.target != target or row.is_layer or len(numbers) < len(NETWORK_NORMS):
            continue
        base, other = numbers[BASELINE], numbers["EN"]

        def ratio(kind, base=base, other=other):
            return f"{other[kind] / base[kind]:.2f} x"

        cells = [f"{base['bytes'] / 1e9:.2f}", ratio("bytes")]
        cells += [f"{base['kernels']:,}", ratio("kernels")]
        cells += [f"{base['temporary'] / 1e9:.2f}", ratio("temporary")]
        cells.append(f"{compile_ratio(numbers, 'EN'):.1f} x")
        lines.append(line(f"{row.subject}, {row.job}, {row.dtype}", cells))
    return lines if len(lines) > 2 else []


def sources(rows):
    """Where the kernels of one row come from, of BN and of EN."""
    lines = ["| function | norm | kernels | passes |", "|---" * 4 + "|"]
    for row, numbers in rows:
        if (row.subject, row.dtype, row.job) != (SHAPES[0], "float32", JOBS[1]):
            continue
        for norm in (BASELINE, "EN"):
            of_norm = numbers[norm]["sources"].items()
            for name, (count, size) in sorted(of_norm, key=lambda x: -x[1][1]):
                cells = [norm, str(count), f"{size / row.tensor:.2f}"]
                lines.append(line(name or "none: copies, constants", cells))
    return lines


def section(table, target):
    name = targets.TARGETS.get(target, target)
    rows = layer_rows(table, target)
    parts = {
        "one layer, passes over the tensor (kernels)": passes(rows),
        "one layer, temporary memory in tensors; compiling": costs(rows),
        "one layer, collectives": collectives(rows),
        "networks": networks(table, target),
        f"where the kernels come from ({JOBS[1]}, float32, {SHAPES[0]})": sources(rows),
    }
    lines = []
    for title, part in parts.items():
        if len(part) > 2:
            lines += [f"## {name}: {title}", "", *part, ""]
    return lines


def write(table, residuals, versions):
    lines = []
    for target in dict.fromkeys(name.split(", ")[0] for name in table):
        lines += section(table, target)
    lines += ["## What the backward pass needs of the forward pass", ""]
    lines += [
        "In tensors like x, as `jax.vjp` hands it over; where both are compiled as one "
        "program, the compiler may compute some of it again.",
        "",
    ]
    lines += heading(LAYER_NORMS)
    for dtype, by_norm in residuals.items():
        lines.append(line(dtype, [f"{by_norm[norm]:.2f}" for norm in LAYER_NORMS]))
    notes = [*NOTES, f"- compilers: {', '.join(versions)}"]
    timing.write(
        "compiled", "What the compilers for GPU and TPU make of a layer", lines, notes
    )
