"""Inputs for the comparison of an artefact with its model."""

import functools
from typing import NamedTuple

import numpy as np

from ..serving import spatial_axes

# By name.
Arrays = dict[str, np.ndarray]
# Where an artefact leaves height and width open.
SIZES = ((64, 64), (96, 80))
# Of other open sizes.
LENGTH = 5
OFFSET = 1e4


class Case(NamedTuple):
    """- `name`: text.
    - `kind`: "random", "constant", "offset" or "pixel".
    - `inputs`: dictionary of arrays by name, in the layout of the model.
    """

    name: str
    kind: str
    inputs: Arrays


class Call(NamedTuple):
    """What an artefact is asked: a signature, and arrays by its names of inputs."""

    signature: str
    inputs: Arrays


def cases(
    inputs: dict, batches: list, sizes: list | None, seed: int, integers: int = 10
) -> list[Case]:
    """Random inputs of every batch and size, and edge cases: constant images, images
    far from 0, and, where the size is open, images of one pixel.

    Args:
        inputs: Dictionary from name to dtype and shape, `None` or a name where it is
            open.
        batches: Batch sizes, for an open batch.
        sizes: Heights and widths, for open ones. `None`: two.
        seed: Integer.
        integers: Integer inputs are below it.

    Raises:
        ValueError: An input is a string.
    """
    for name, (dtype, _) in inputs.items():
        if dtype == "string":
            raise ValueError(
                f"Inputs of strings cannot be drawn at random. Received: {name!r}"
            )
    fixed = {shape[0] for _, shape in inputs.values() if isinstance(shape[0], int)}
    batches = list(fixed or batches)
    opened = any(_open_axes(shape) for _, shape in inputs.values())
    draw = functools.partial(_drawn, inputs, np.random.default_rng(seed), integers)
    chosen = list(sizes or SIZES) if opened else [None]
    drawn = []
    for size in chosen:
        place = f", {size[0]} x {size[1]}" if size else ""
        for n in batches:
            drawn.append(Case(f"random, batch {n}{place}", "random", draw(n, size)))
    middle = sorted(batches)[len(batches) // 2]
    edges = [
        ("constant", "constant", chosen[0], lambda x: np.full_like(x, 0.5)),
        ("offset", "offset", chosen[0], lambda x: x + OFFSET),
    ]
    if opened:
        edges.append(("one pixel", "pixel", (1, 1), lambda x: x))
    for name, kind, size, change in edges:
        drawn.append(Case(f"{name}, batch {middle}", kind, draw(middle, size, change)))
    return drawn


def samples(arrays: Arrays) -> list[Arrays]:
    """Each sample alone."""
    n = len(next(iter(arrays.values())))
    return [{k: v[i : i + 1] for k, v in arrays.items()} for i in range(n)]


def backwards(arrays: Arrays) -> Arrays:
    """Arrays with their samples in the other order."""
    return {k: v[::-1].copy() for k, v in arrays.items()}


def _drawn(inputs, rng, integers, n, size, change=lambda x: x):
    """An array for every input; `change` is for those that are floats."""
    arrays = {}
    for name, (dtype, shape) in inputs.items():
        filled = [n, *(s if isinstance(s, int) else LENGTH for s in shape[1:])]
        for axis in _open_axes(shape):
            filled[axis] = size[spatial_axes(shape).index(axis)]
        if np.issubdtype(np.dtype(dtype), np.floating):
            arrays[name] = change(rng.normal(size=filled)).astype(dtype)
        else:
            high = 2 if dtype == "bool" else integers
            arrays[name] = rng.integers(0, high, filled).astype(dtype)
    return arrays


def _open_axes(shape):
    """The axes of an image's height and width that are open."""
    axes = spatial_axes(shape) if len(shape) == 4 else ()
    return [axis for axis in axes if not isinstance(shape[axis], int)]
