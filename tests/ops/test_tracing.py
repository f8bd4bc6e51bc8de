"""How TensorFlow and XLA are tracing."""

import importlib
import threading

import pytest

from keras_en.ops import tracing

pytestmark = pytest.mark.tensorflow


def traced(jit_compile):
    """What is asked of a function while TensorFlow traces it."""
    import tensorflow as tf

    answers = []

    @tf.function(jit_compile=jit_compile)
    def function(x):
        answers[:] = tracing.is_graph(), tracing.is_xla(), tracing.is_xla_on_cpu()
        return x

    function(tf.constant(0.0))
    return answers


def test_by_hand():
    assert not tracing.is_graph() and not tracing.is_xla()
    assert traced(jit_compile=False) == [True, False, False]
    assert traced(jit_compile=True) == [True, True, True]


def test_an_island_is_compiled_in_the_graph_that_asks_for_it():
    import tensorflow as tf

    answers = []

    def function(x):
        answers.append(tracing.is_xla())
        return x

    @tf.function(autograph=False)
    def other(x):
        return tracing.island(function)(x)

    @tf.function(autograph=False)
    def graph(x):
        tracing.compile_islands()
        # A thread that traces a graph of its own meanwhile.
        thread = threading.Thread(target=other.get_concrete_function, args=(x.shape,))
        thread.start()
        thread.join()
        return tracing.island(function)(x)

    graph(tf.zeros(2))
    assert answers == [False, True]
    other(tf.zeros(2))
    assert not answers.pop() and tracing.island(function) is function


def has(name):
    """Whether a module, or a class in it, has the attribute."""
    owner, _, attribute = name.rpartition(".")
    try:
        owner = importlib.import_module(owner)
    except ModuleNotFoundError:
        module, _, kind = owner.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    return hasattr(owner, attribute)


@pytest.mark.parametrize("name, use", tracing.USES.items())
def test_the_package_has_the_name(name, use):
    package = importlib.import_module(name.split(".")[0])
    assert has(name), (
        f"{package.__name__} {package.__version__} no longer has {name}, used for {use}"
    )
