"""How TensorFlow, JAX and XLA are tracing: the only place that asks, and the only one
that touches private names of TensorFlow and JAX."""

import itertools
import threading
import weakref
from typing import Any

import keras

# Private names, and what they are used for; a test holds that they are there.
USES = {
    "jax._src.core.is_concrete": "whether JAX is tracing a program",
    "tensorflow.python.ops.control_flow_util.GraphOrParentsInXlaContext": (
        "whether XLA compiles what is traced"
    ),
    "tensorflow.python.distribute.mirrored_strategy.MirroredStrategy."
    "_collective_key_base": (
        "groups of collectives apart from those of other strategies"
    ),
    "tensorflow.python.distribute.mirrored_strategy.MirroredExtended."
    "_make_collective_ops_with_fallbacks": (
        "groups of collectives apart from those of other strategies"
    ),
    "tensorflow.python.eager.forwardprop_util.pack_tangents": (
        "whether TensorFlow's forward mode is at work"
    ),
    "tensorflow.python.distribute.cross_device_ops.CollectiveAllReduce._all_reduce": (
        "a collective without the threads of other replicas"
    ),
}
# Where the numbers of the groups of collectives of each strategy begin: far above what
# any counts to.
_groups = itertools.count(1000, 1000)
_groups_lock = threading.Lock()
_numbered: weakref.WeakSet[Any] = weakref.WeakSet()
# Graphs in which layers compile what lies between collectives; see `compile_islands`.
_with_islands: weakref.WeakSet[Any] = weakref.WeakSet()


def is_graph():
    """Whether TensorFlow is tracing a graph."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


def is_jit(tensor):
    """Whether JAX is tracing a program: `tensor` has no value yet."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return not jax._src.core.is_concrete(tensor)


def is_forward_mode(tensors):
    """Whether a `tf.autodiff.ForwardAccumulator` follows one of the tensors."""
    from tensorflow.python.eager import forwardprop_util

    return bool(forwardprop_util.pack_tangents(tensors).tangents)


def is_xla():
    """Whether TensorFlow is tracing what XLA compiles."""
    if not is_graph():
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def platform():
    """What the backend computes on: "cpu", "gpu" or "tpu"."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        kinds = filter(tf.config.list_logical_devices, ("GPU", "TPU"))
        return next(kinds, "CPU").lower()
    if backend == "jax":
        import jax

        device = jax.config.jax_default_device
        return getattr(device, "platform", device) or jax.default_backend()
    return "cpu"


def is_on_cpu():
    """Whether the backend has no other device."""
    return platform() == "cpu"


def is_fusing():
    """Whether XLA compiles what is traced for a GPU or a TPU. It then computes several
    sums in one loop over what they read; for a CPU it reads that once a sum."""
    compiled = keras.backend.backend() == "jax" or is_xla()
    return compiled and not is_on_cpu()


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
    """Whether TensorFlow is tracing a loop or a branch, such as that of an RNN, or, in
    a replica, a function of its own: what its graph cannot be left from."""
    graphs = list(_graphs())
    # The thread of a replica knows the graph in which replicas meet.
    own = getattr(threading.current_thread(), "graph", None)
    inner = bool(graphs) and own in graphs and graphs[0] is not own
    return inner or any(graph.is_control_flow_graph for graph in graphs)


def _graphs():
    """Those of functions that TensorFlow is tracing, inner first."""
    if not is_graph():
        return
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    while getattr(graph, "building_function", False):
        yield graph
        graph = graph.outer_graph


def compile_islands():
    """In the graph that is being traced, what a layer of several replicas computes
    before and behind its collective is compiled by XLA; the collective itself cannot
    be.

    A mark of the graph, which all threads of its replicas trace, and no other thread.
    """
    import tensorflow as tf

    _with_islands.add(tf.compat.v1.get_default_graph())


def island(function):
    """`function` of tensors, compiled if `compile_islands` says so."""
    if not any(graph in _with_islands for graph in _graphs()):
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def collective(context):
    """What sums tensors over the replicas of a strategy, in the graph of one of them: a
    function of a list of tensors of one dtype. `None` where TensorFlow has none: out of
    graphs, on a TPU, where devices of several kinds are replicas.

    `context.all_reduce` would stop the thread of a replica until those of the others
    are as far.
    """
    import tensorflow as tf

    extended = context.strategy.extended
    own = getattr(extended, "_collective_ops", None)
    collective_ops = own or getattr(extended, "_cross_device_ops", None)
    if not is_graph() or not hasattr(collective_ops, "_launchers"):
        return None
    kind = tf.distribute.ReduceOp.SUM
    options = tf.distribute.experimental.CommunicationOptions()
    replica = context._replica_id
    return lambda tensors: collective_ops._all_reduce(kind, tensors, replica, options)


def number_groups_apart(strategy):
    """Gives the collectives of a `MirroredStrategy` groups of their own.

    TensorFlow numbers the groups of every strategy from 1, and their collectives from
    100, so that the replicas of one would join a group of another of this process, with
    other devices, or a collective of another dtype, and abort. Strategies of several
    hosts stay as they are: their numbers have to be those of the other hosts.
    """
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        return
    extended = strategy.extended
    with _groups_lock:
        if extended in _numbered:
            return
        _numbered.add(extended)
        extended._collective_key_base = next(_groups)
        before = extended._collective_ops
        extended._collective_ops = extended._make_collective_ops_with_fallbacks()
        if extended._cross_device_ops is before:
            extended._cross_device_ops = extended._collective_ops
