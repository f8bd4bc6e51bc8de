"""Strategies of `tf.distribute` by name, and who is who in them."""

import json
import os
from typing import Any

from keras_en.arguments import check, refused

NAMES = ("none", "mirrored", "multiworker")


def strategy(name: str, replicas: int | None = None, timeout: int = 600) -> Any:
    """The strategy called `name`. Call it before TensorFlow touches a device.

    Args:
        name: One of
            - "none": one device, TensorFlow's default;
            - "mirrored": `MirroredStrategy` over the GPUs of this machine; without
              any, over `replicas` logical CPU devices;
            - "multiworker": `MultiWorkerMirroredStrategy`; every process finds its
              place in the environment variable `TF_CONFIG`.
        replicas: For "mirrored": how many. `None`: all GPUs, or 2 logical CPUs.
        timeout: For "multiworker": seconds that a worker waits for the others in a
            collective, tracing and compiling included, before it fails.

    Returns:
        `tf.distribute.Strategy`.

    Raises:
        ValueError: `name` is unknown, `replicas` is given for another than
            "mirrored" or more than there are GPUs (without any: than 8 and than there
            are cores), or `TF_CONFIG` is absent or names no place in a cluster.
        RuntimeError: TensorFlow has started: CPUs cannot be divided any more.

    Example:

    >>> from keras_en import training
    >>> training.strategy("none").num_replicas_in_sync
    1
    """
    check(name in NAMES, "strategy", f"one of {NAMES}", name)
    if replicas is not None and name != "mirrored":
        received = f"replicas={replicas}, strategy={name!r}"
        raise refused("replicas", 'None but for strategy="mirrored"', received)
    import tensorflow as tf

    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_devices(replicas))
    _check_cluster()
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _devices(replicas):
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    if gpus:
        count = gpus if replicas is None else replicas
        allowed = f"at most {gpus}, the GPUs of this machine"
        check(count <= gpus, "replicas", allowed, replicas)
        return [f"GPU:{i}" for i in range(count)]
    count = replicas or 2
    most = max(8, os.cpu_count() or 1)
    allowed = f"at most {most} without GPUs: each takes memory and threads"
    check(count <= most, "replicas", allowed, replicas)
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
    return [f"CPU:{i}" for i in range(count)]


def _check_cluster():
    text = os.environ.get("TF_CONFIG")
    try:
        config = json.loads(text or "")
        addresses = config["cluster"][config["task"]["type"]]
        valid = 0 <= int(config["task"]["index"]) < len(addresses)
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ValueError(
            'The environment variable TF_CONFIG must name, for strategy="multiworker", '
            "all workers and the place of this one: "
            '{"cluster": {"worker": ["host0:port", "host1:port"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received: {text}'
        )


def is_chief(strategy: Any) -> bool:
    """Whether this process is the one that writes files and prints; without a strategy,
    on other backends, it is."""
    if strategy is None:
        return True
    resolver = strategy.cluster_resolver
    jobs = {} if resolver is None else resolver.cluster_spec().as_dict()
    if not jobs or resolver.task_type is None:
        return True
    if "chief" in jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def equal_on_all_workers(strategy, numbers):
    """Whether all workers call this with the same integers."""
    if strategy.cluster_resolver is None or strategy.num_replicas_in_sync == 1:
        return True
    import tensorflow as tf

    row = tf.constant([numbers], "int64")
    rows = strategy.experimental_distribute_values_from_function(lambda _: row)
    rows = strategy.gather(rows, axis=0).numpy()
    return bool((rows == rows[0]).all())
