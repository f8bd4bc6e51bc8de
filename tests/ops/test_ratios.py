"""The softmax that all ratios are made by."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, SwitchableNormalization
from keras_en.ops import kernels, ratios, tracing
from tests import reference


def computed(values):
    logits = keras.ops.convert_to_tensor(values.astype("float32"))
    return keras.ops.convert_to_numpy(ratios.softmax(logits))


@pytest.fixture(params=["cpu", "gpu"])
def platform(request, monkeypatch):
    monkeypatch.setattr(tracing, "platform", lambda: request.param)
    return request.param


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_softmax_is_that_of_float64(count, rng, platform):
    values = rng.normal(size=(6, count)) * [[0.1], [1.0], [10.0], [100.0], [1e4], [1.0]]
    values[-1] += 1e5
    expected = reference.softmax(values.astype("float32").astype("float64"))
    np.testing.assert_allclose(computed(values), expected, rtol=1e-5, atol=1e-30)


def test_softmax_of_no_samples(platform):
    assert computed(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [ExemplarNormalization, SwitchableNormalization])
@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="only JAX's programs differ by device"
)
def test_no_reduction_of_ratios_on_a_gpu(kind, training, rng, monkeypatch):
    """XLA takes minutes to compile a network with them, see `ratios._by_columns`."""
    import jax

    monkeypatch.setattr(tracing, "platform", lambda: "gpu")
    # The kernel of the head hides what it computes; a mask does without it.
    monkeypatch.setattr(kernels, "fits", lambda *_: False)
    layer = kind()
    x = rng.normal(size=(4, 6, 6, 16)).astype("float32")
    layer.build(x.shape)

    def loss(trainable, x):
        others = [v.value for v in layer.non_trainable_variables]
        y, _ = layer.stateless_call(trainable, others, x, training=training)
        return (y**3).sum()

    trainable = [v.value for v in layer.trainable_variables]
    jaxpr = jax.make_jaxpr(jax.grad(loss))(trainable, x)
    rows = [
        (equation.primitive.name, equation.invars[0].aval.shape)
        for equation in equations(jaxpr.jaxpr)
        if equation.primitive.name in ("reduce_max", "reduce_sum")
        and equation.params["axes"] == (len(equation.invars[0].aval.shape) - 1,)
    ]
    count = len(layer.pool)
    assert rows, "reductions along channels are there"
    assert not [row for row in rows if row[1][-1] == count]


def equations(jaxpr):
    """All of it, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)
