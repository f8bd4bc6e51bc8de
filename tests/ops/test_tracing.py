"""How TensorFlow and XLA are tracing."""

import importlib

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


def test_an_island_is_compiled_if_that_is_asked_for():
    import tensorflow as tf

    def function(x):
        assert tracing.is_xla() == compiled
        return x

    for compiled in (False, True):
        with tracing.compiled_islands(compiled):
            tracing.island(function)(tf.constant(0.0))
    assert tracing.island(function) is function, "nothing is left behind"


@pytest.mark.parametrize("name, use", tracing.USES.items())
def test_tensorflow_has_the_name(name, use):
    import tensorflow as tf

    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), (
        f"TensorFlow {tf.__version__} no longer has {name}, used for {use}"
    )
