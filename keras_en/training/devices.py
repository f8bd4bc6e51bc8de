"""Devices and precision of a training, on every backend."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_en.arguments import check, check_backend
from keras_en.training import strategies

PRECISIONS = ("float32", "float16", "bfloat16")


@contextlib.contextmanager
def distributed(strategy: str, replicas: int | None) -> Iterator[Any]:
    """Inside, the devices are those of a strategy; yields one of TensorFlow's,
    or `None` on other backends.

    Raises:
        RuntimeError, ValueError: The backend has no such strategy, or not so many
            devices; see also `keras_en.training.strategy`.
    """
    if keras.backend.backend() == "tensorflow":
        yield strategies.strategy(strategy, replicas)
        return
    several = strategy == "mirrored" and keras.backend.backend() == "jax"
    if strategy != "none" and not several:
        check_backend(f"--strategy {strategy} needs the TensorFlow backend")
    if not several:
        check(replicas is None, "replicas", "None", replicas)
        yield None
        return
    devices = keras.distribution.list_devices()
    count = replicas or len(devices)
    check(count <= len(devices), "replicas", f"at most {len(devices)}", count)
    distribution = keras.distribution
    before = distribution.distribution()
    distribution.set_distribution(distribution.DataParallel(devices=devices[:count]))
    try:
        yield None
    finally:
        distribution.set_distribution(before)


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Inside, new layers have it; the half ones are mixed."""
    check(precision in PRECISIONS, "precision", f"one of {PRECISIONS}", precision)
    before = keras.config.dtype_policy()
    if precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def make_deterministic() -> None:
    """From here on TensorFlow has no operation that may differ from run to run."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
