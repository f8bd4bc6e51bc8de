"""How TensorFlow and XLA are tracing: the only place that asks, and the only one that
touches private names of TensorFlow."""

import contextlib

import keras

# Private name of TensorFlow, and what it is used for; a test holds that it is there.
USES = {
    "tensorflow.python.ops.control_flow_util.GraphOrParentsInXlaContext": (
        "whether XLA compiles what is traced"
    ),
}
# Whether layers compile what lies between collectives; see `compiled_islands`.
_islands = False


def is_graph():
    """Whether TensorFlow is tracing a graph."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


def is_xla():
    """Whether TensorFlow is tracing what XLA compiles."""
    if not is_graph():
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def is_on_cpu():
    """Whether TensorFlow has no other device."""
    import tensorflow as tf

    return not any(map(tf.config.list_logical_devices, ("GPU", "TPU")))


def is_xla_on_cpu():
    """Whether TensorFlow's XLA for a CPU is tracing."""
    return is_xla() and is_on_cpu()


def in_this_graph(tensor):
    """`tensor`, captured by the graph that TensorFlow is tracing.

    In the graph of a function, one of an outer graph is found by its name only as long
    as that graph is being traced.
    """
    if not is_graph():
        return tensor
    import tensorflow as tf

    if getattr(tensor, "graph", None) is tf.compat.v1.get_default_graph():
        return tensor
    return tf.identity(tensor)


def is_control_flow():
    """Whether TensorFlow is tracing a loop or a branch, such as that of an RNN."""
    if not is_graph():
        return False
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    while getattr(graph, "building_function", False):
        if graph.is_control_flow_graph:
            return True
        graph = graph.outer_graph
    return False


@contextlib.contextmanager
def compiled_islands(wanted=True):
    """Inside, what a layer of several replicas computes before and behind its
    collective is compiled by XLA; the collective itself cannot be."""
    global _islands
    # Not thread-local: MirroredStrategy traces every replica in a thread of its own.
    before, _islands = _islands, wanted
    try:
        yield
    finally:
        _islands = before


def island(function):
    """`function` of tensors, compiled if `compiled_islands` says so."""
    if not _islands:
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)
