"""The private names of TensorFlow that say how a function is compiled.

Nothing else in this package touches one of Keras or TensorFlow.
"""

import contextlib
import threading
from collections.abc import Iterator
from unittest import mock

# Owner and name, and what it is used for; a test holds that each is there.
USES = {
    "Function._clone": "tracing a function anew",
    "Function._jit_compile": "whether XLA compiles a function",
}
_tracing = threading.RLock()


@contextlib.contextmanager
def without_xla() -> Iterator[list[str]]:
    """Functions that are traced inside, in this thread, are all for TensorFlow's own
    kernels: those of `tf.function(jit_compile=True)` too, of which Keras makes one of
    each convolution with groups. The graph can then be served where there is no XLA,
    and converted.

    Yields:
        List to which the name of each such function is added.
    """
    import tensorflow as tf

    kind, thread = type(tf.function(abs)), threading.get_ident()
    original, compiled = kind.__call__, []
    # With the functions themselves, whose identity could be another's otherwise.
    clones: dict[int, tuple] = {}

    def clone(function):
        new = function._clone(None)
        if new._jit_compile:
            new._jit_compile = None
            compiled.append(function.name)
        return new

    def call(function, *args, **kwargs):
        traced = thread == threading.get_ident() and not tf.executing_eagerly()
        # Any of them: it may have been traced before, with one that XLA compiles in it.
        # What was loaded from a file, of another type, cannot be traced anew.
        if traced and type(function) is kind:
            if id(function) not in clones:
                clones[id(function)] = function, clone(function)
            _, function = clones[id(function)]
        return original(function, *args, **kwargs)

    with _tracing, mock.patch.object(kind, "__call__", call):
        yield compiled
