"""Strategies of `tf.distribute` by name, and who is who in them."""

import json
import os

NAMES = ("none", "mirrored", "multiworker")


def strategy(name, replicas=None, timeout=600):
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
            "mirrored" or more than there are GPUs, or `TF_CONFIG` is absent or names
            no place in a cluster.
        RuntimeError: TensorFlow has started: CPUs cannot be divided any more.
    """
    if name not in NAMES:
        raise ValueError(
            f"Argument `strategy` must be one of {NAMES}. Received: strategy={name!r}"
        )
    if replicas is not None and name != "mirrored":
        raise ValueError(
            'Argument `replicas` must be None but for strategy="mirrored". '
            f"Received: replicas={replicas}, strategy={name!r}"
        )
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

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        count = len(gpus) if replicas is None else replicas
        if count > len(gpus):
            raise ValueError(
                f"Argument `replicas` must be at most {len(gpus)}, the GPUs of this "
                f"machine. Received: replicas={replicas}"
            )
        return [f"GPU:{i}" for i in range(count)]
    count = replicas or 2
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
    return [f"CPU:{i}" for i in range(count)]


def _check_cluster():
    text = os.environ.get("TF_CONFIG")
    example = (
        '{"cluster": {"worker": ["host0:port", "host1:port"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        found = json.loads(text or "")
        addresses = found["cluster"][found["task"]["type"]]
        valid = 0 <= int(found["task"]["index"]) < len(addresses)
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ValueError(
            'The environment variable TF_CONFIG must name, for strategy="multiworker", '
            f"all workers and the place of this one: {example}. Received: {text}"
        )


def is_chief(strategy):
    """Whether this process is the one that writes files and prints."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return True
    if resolver.task_type is None:
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0
