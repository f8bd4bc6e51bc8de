"""Ratios as a network would have them, without one."""

import numpy as np

from keras_en.analysis import RatioHistory, Ratios
from keras_en.analysis.running import Layer

POOL = ("instance", "layer", "batch")


def ratios(
    layers=2, samples=30, classes=3, pool=POOL, scale=0.3, labels=True, **kwargs
):
    """Classes differ by `scale`, their samples by half of it; layers halve the image.

    A class is there for its first sample at least."""
    rng = np.random.default_rng(0)
    own = np.arange(samples) % classes
    values, names = [], []
    for i in range(layers):
        logits = scale * rng.normal(size=(classes, len(pool)))[own]
        logits = logits + 0.5 * scale * rng.normal(size=(samples, len(pool)))
        shares = np.exp(logits)
        values.append((shares / shares.sum(1, keepdims=True)).astype("float32"))
        size = 32 >> (i * 3 // layers)
        names.append(Layer(f"net/block{i}_norm", pool, (size, size)))
    predicted = np.where(np.arange(samples) % 5, own, (own + 1) % max(2, classes))
    if not labels:
        return Ratios.of(names, values)
    return Ratios.of(names, values, own, predicted, **kwargs)


def history(**kwargs):
    """All alike at the start, as every network is."""
    return RatioHistory(
        {
            0: ratios(scale=0, **kwargs),
            1: ratios(scale=0.1, **kwargs),
            4: ratios(**kwargs),
        }
    )
