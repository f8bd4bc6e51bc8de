import collections
import os

# Before the first import of JAX or TensorFlow; float64 oracles need it.
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Convolutions with channels first need it on a CPU; TensorFlow decides by processor.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Before TensorFlow starts: replicas of `tf.distribute` on one machine.
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 4
    )


REPLICAS = int(os.environ.get("KERAS_EN_TEST_REPLICAS", "2"))


@pytest.fixture(scope="session")
def strategy():
    """The one of this process: TensorFlow numbers the collectives of every strategy
    from 1, so that those of two would meet."""
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def fresh_names_and_seed():
    # Collecting garbage takes longer than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    _mark_slow(items)
    # The longest first, and in one process: they share the results of two trainings.
    items.sort(key=lambda item: item.path.name != "test_workers.py")
    backend = keras.backend.backend()
    for item in items:
        if backend != "tensorflow" and item.get_closest_marker("tensorflow"):
            item.add_marker(
                pytest.mark.skip(reason=f"needs TensorFlow, runs on {backend}")
            )


def _mark_slow(items):
    """Of a thorough test one case of so many is fast, or the first alone."""
    cases = collections.Counter()
    for item in items:
        marker = item.get_closest_marker("thorough")
        if marker is not None:
            test = item.nodeid.partition("[")[0]
            every = marker.args[0] if marker.args else len(items)
            if cases[test] % every:
                item.add_marker("slow")
            cases[test] += 1
