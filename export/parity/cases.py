"""Inputs for the comparison of an artefact with its model."""

from collections.abc import Sequence
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
TEXT = "string"
# What a vocabulary may not hold, and what a tokenizer has to split or fold.
_STRANGE = ("Unheard-of", "qqzx", "Grüße", "日本語", "naïve!", "42")
_TEXTS = {"empty texts": "", "unknown words": "qqzx zzxq", "not ASCII": "Grüße 日本語"}


class Case(NamedTuple):
    """- `name`: text.
    - `kind`: "random", "constant", "offset", "pixel" or "text".
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
    inputs: dict,
    batches: list,
    sizes: list | None,
    seed: int,
    integers: int = 10,
    words: Sequence[str] = (),
) -> list[Case]:
    """Random inputs of every batch and size, and edge cases: constant images, images
    far from 0, and, where the size is open, images of one pixel; of text empty ones,
    unknown words, and others than ASCII.

    Args:
        inputs: Dictionary from name to dtype and shape, `None` or a name where it is
            open.
        batches: Batch sizes, for an open batch.
        sizes: Heights and widths, for open ones. `None`: two.
        seed: Integer.
        integers: Integer inputs are below it.
        words: Of which, beside strange ones, texts are drawn.
    """
    fixed = {shape[0] for _, shape in inputs.values() if isinstance(shape[0], int)}
    batches = list(fixed or batches)
    opened = any(_open_axes(shape) for _, shape in inputs.values())
    values = _Values(np.random.default_rng(seed), integers, [*words])
    chosen = list(sizes or SIZES) if opened else [None]
    drawn = []

    def add(name, kind, n, size, **how):
        drawn.append(Case(name, kind, _drawn(inputs, values, n, size, **how)))

    for size in chosen:
        place = f", {size[0]} x {size[1]}" if size else ""
        for n in batches:
            add(f"random, batch {n}{place}", "random", n, size)
    n, first = sorted(batches)[len(batches) // 2], chosen[0]
    kinds = {dtype for dtype, _ in inputs.values()}
    if TEXT in kinds:
        for name, text in _TEXTS.items():
            add(name, "text", n, first, text=text)
    if kinds != {TEXT}:
        half, far = lambda x: np.full_like(x, 0.5), lambda x: x + OFFSET
        add(f"constant, batch {n}", "constant", n, first, change=half)
        add(f"offset, batch {n}", "offset", n, first, change=far)
    if opened:
        add(f"one pixel, batch {n}", "pixel", n, (1, 1))
    return drawn


def samples(arrays: Arrays) -> list[Arrays]:
    """Each sample alone."""
    n = len(next(iter(arrays.values())))
    return [{k: v[i : i + 1] for k, v in arrays.items()} for i in range(n)]


def backwards(arrays: Arrays) -> Arrays:
    """Arrays with their samples in the other order."""
    return {k: v[::-1].copy() for k, v in arrays.items()}


class _Values(NamedTuple):
    """What inputs are drawn from."""

    rng: np.random.Generator
    integers: int
    words: list[str]

    def texts(self, shape):
        """None, one or several words each, every fourth a strange one."""
        texts = np.empty(shape, object)
        for place in np.ndindex(*shape):
            count = self.rng.choice([0, 1, 1, 2, 5])
            texts[place] = " ".join(self.word() for _ in range(count)).encode()
        return texts

    def word(self):
        strange = not self.words or self.rng.random() < 0.25
        return str(self.rng.choice(_STRANGE if strange else self.words))


def _drawn(inputs, values, n, size, change=lambda x: x, text=None):
    """An array for every input; `change` is for those that are floats, `text` stands
    in every one of text."""
    rng, arrays = values.rng, {}
    for name, (dtype, shape) in inputs.items():
        filled = [n, *(s if isinstance(s, int) else LENGTH for s in shape[1:])]
        for axis in _open_axes(shape):
            filled[axis] = size[spatial_axes(shape).index(axis)]
        if dtype == TEXT and text is not None:
            arrays[name] = np.full(filled, text.encode(), object)
        elif dtype == TEXT:
            arrays[name] = values.texts(filled)
        elif np.issubdtype(np.dtype(dtype), np.floating):
            arrays[name] = change(rng.normal(size=filled)).astype(dtype)
        else:
            high = 2 if dtype == "bool" else values.integers
            arrays[name] = rng.integers(0, high, filled).astype(dtype)
    return arrays


def _open_axes(shape):
    """The axes of an image's height and width that are open."""
    axes = spatial_axes(shape) if len(shape) == 4 else ()
    return [axis for axis in axes if not isinstance(shape[axis], int)]
