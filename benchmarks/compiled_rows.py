"""What `compiled.py` compiles: the rows of its tables."""

import itertools
from math import prod
from typing import NamedTuple

LAYER_NORMS = ["BN", "SN", "EN", "EN as printed"]
NETWORK_NORMS = ["BN", "EN"]
SHAPES = ["64x56x56x256", "256x56x56x256", "32x14x14x1024"]
NETWORKS = ["ResNet-20", "ResNet-50"]
DTYPES = {"float32": 4, "bfloat16": 2}
JOBS = ["training", "training in a network", "inference"]
ON_DEVICES = "training on 4 devices"
BY_TENSORFLOW = ["training by TensorFlow", "inference by TensorFlow"]


class Row(NamedTuple):
    target: str
    subject: str  # the shape of a layer's input, or a network
    dtype: str
    job: str

    @property
    def name(self):
        return ", ".join(self)

    @property
    def is_layer(self):
        return self.subject not in NETWORKS

    @property
    def shape(self):
        return tuple(map(int, self.subject.split("x")))

    @property
    def devices(self):
        return 4 if self.job == ON_DEVICES else 1

    @property
    def backend(self):
        return "tensorflow" if self.job in BY_TENSORFLOW else "jax"

    @property
    def tensor(self):
        """Bytes of a layer's input on a device."""
        return prod(self.shape) * DTYPES[self.dtype] / self.devices


def rows(target):
    """Every row of a target."""
    layers = itertools.product(SHAPES, DTYPES, JOBS)
    networks = itertools.product(NETWORKS, reversed(DTYPES), ("training", "inference"))
    # The wheel of TensorFlow cannot write for a TPU: it has no kernels for one.
    jobs = [ON_DEVICES] + BY_TENSORFLOW * (":" not in target)
    return [
        *(Row(target, *row) for row in layers),
        *(Row(target, SHAPES[0], "float32", job) for job in jobs),
        *(Row(target, *row) for row in networks),
    ]
