"""Inputs for the comparison of an artefact with its model."""

from typing import NamedTuple

import numpy as np

from ..serving import spatial_axes

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
    inputs: dict


def cases(inputs, batches, sizes, seed, integers=10):
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
        ValueError: An input is neither a float, nor an integer, nor boolean.
    """
    for name, (dtype, _) in inputs.items():
        if dtype == "string":
            raise ValueError(
                f"Inputs of strings cannot be drawn at random. Received: {name!r}"
            )
    rng = np.random.default_rng(seed)
    fixed = {shape[0] for _, shape in inputs.values()} - {None, "batch"}
    batches = [n for n in fixed if isinstance(n, int)] or list(batches)
    opened = any(
        not isinstance(shape[axis], int)
        for _, shape in inputs.values()
        if len(shape) == 4
        for axis in spatial_axes(shape)
    )
    sizes = (list(sizes) if sizes else SIZES) if opened else [None]

    def draw(n, size, change=lambda x: x):
        found = {}
        for name, (dtype, shape) in inputs.items():
            filled = [n, *(s if isinstance(s, int) else LENGTH for s in shape[1:])]
            if size is not None and len(shape) == 4:
                for axis, length in zip(spatial_axes(shape), size, strict=True):
                    if not isinstance(shape[axis], int):
                        filled[axis] = length
            if np.issubdtype(np.dtype(dtype), np.floating):
                found[name] = change(rng.normal(size=filled)).astype(dtype)
            else:
                high = 2 if dtype == "bool" else integers
                found[name] = rng.integers(0, high, filled).astype(dtype)
        return found

    found = []
    for size in sizes:
        place = f", {size[0]} x {size[1]}" if size else ""
        for n in batches:
            found.append(Case(f"random, batch {n}{place}", "random", draw(n, size)))
    middle, size = sorted(batches)[len(batches) // 2], sizes[0]
    for kind, change in (
        ("constant", lambda x: np.full_like(x, 0.5)),
        ("offset", lambda x: x + OFFSET),
    ):
        name = f"{kind}, batch {middle}"
        found.append(Case(name, kind, draw(middle, size, change)))
    if opened:
        name = f"one pixel, batch {middle}"
        found.append(Case(name, "pixel", draw(middle, (1, 1))))
    return found


def alone(case):
    """Each sample of a case as a case of its own, and all of them in another order."""
    n = len(next(iter(case.inputs.values())))
    singles = [{k: v[i : i + 1] for k, v in case.inputs.items()} for i in range(n)]
    order = np.arange(n)[::-1]
    return singles, {k: v[order] for k, v in case.inputs.items()}, order
