"""The layer on a GPU against the oracle in float64, and the plain layer on the CPU."""

from typing import NamedTuple

import jax
import numpy as np

from keras_en import ExemplarNormalization
from tests import reference


class Case(NamedTuple):
    """`is_small`: few enough numbers for gradients by the oracle, too, which takes a
    forward pass for each; of others the plain form on the CPU stands for it."""

    shape: tuple
    dtype: str = "float32"
    training: bool = True
    masked: bool = False
    is_small: bool = False


CASES = [
    Case((4, 4, 3, 8), is_small=True),
    Case((4, 4, 3, 8), masked=True, is_small=True),
    Case((4, 4, 3, 8), training=False, is_small=True),
    Case((8, 28, 28, 64)),
    Case((4, 14, 14, 1024)),
    Case((3, 15, 13, 96), masked=True),
    Case((4, 14, 14, 1024), training=False),
    Case((8, 28, 28, 64), "bfloat16"),
    Case((4, 14, 14, 1024), "bfloat16"),
    Case((4, 14, 14, 1024), "bfloat16", training=False),
]


def errors(case):
    """The largest differences, each relative to the largest number, by name; and
    whether the program has the kernels of `ops.kernels`."""
    rng = np.random.default_rng(0)
    policy = case.dtype if case.dtype == "float32" else f"mixed_{case.dtype}"
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        layer = ExemplarNormalization(dtype=policy, epsilon=1e-3)
        layer.build(case.shape)
        weights = {v.name: _drawn(v, rng) for v in layer.variables}
    x, cotangent = (
        np.asarray(jax.numpy.asarray(rng.normal(0.3, 1.2, case.shape), case.dtype))
        for _ in range(2)
    )
    mask = None
    if case.masked:
        mask = rng.random(case.shape[:-1]) < 0.6
        mask.reshape(case.shape[0], -1)[:, 0] = True
    results, text = _step(layer, weights, x, cotangent, mask, case.training)
    expected = _oracle(layer, weights, x, cotangent, mask, case)
    if not case.is_small:
        wide = ExemplarNormalization(dtype="float32", epsilon=1e-3)
        with jax.default_device(cpu), jax.default_matmul_precision("highest"):
            wide.build(case.shape)
            arrays = (np.asarray(t, "float32") for t in (x, cotangent))
            plain, _ = _step(wide, weights, *arrays, mask, case.training)
        expected = {**plain, **expected}
    numbers = {}
    for name, right in expected.items():
        difference = np.abs(np.asarray(results[name], "float64") - right).max()
        numbers[name] = float(difference / max(np.abs(right).max(), 1e-3))
    return {"case": case._asdict(), "kernels": "pallas" in text, "errors": numbers}


def _drawn(variable, rng):
    value = rng.normal(size=variable.shape)
    if variable.name.startswith("ratio"):
        # Few enough for tanh not to saturate.
        value = value * 0.3 / np.sqrt(max(1, variable.shape[0] / 8))
    if variable.name == "moving_variance":
        value = np.exp(value)
    return value.astype("float32")


def _step(layer, weights, x, cotangent, mask, training):
    """Outputs, ratios and all gradients by name, and the program's text."""
    trainable = [weights[v.name] for v in layer.trainable_variables]
    state = [weights[v.name] for v in layer.non_trainable_variables]

    def run(trainable, x):
        def loss(trainable, x):
            (y, ratios), _ = layer.stateless_call(
                trainable, state, x, training=training, mask=mask, return_ratios=True
            )
            return (y * cotangent.astype(y.dtype)).astype("float32").sum(), (y, ratios)

        return jax.grad(loss, (0, 1), has_aux=True)(trainable, x)

    compiled = jax.jit(run).lower(trainable, x).compile()
    (gradients, dx), (y, ratios) = compiled(trainable, x)
    results = {"outputs": y, "ratios": ratios, "dx": dx}
    names = [v.name for v in layer.trainable_variables]
    results |= dict(zip(names, gradients, strict=True))
    arrays = {name: np.asarray(value, "float64") for name, value in results.items()}
    return arrays, compiled.as_text()


def _oracle(layer, weights, x, cotangent, mask, case):
    weights = {name: value.astype("float64") for name, value in weights.items()}
    moving = weights.pop("moving_mean"), weights.pop("moving_variance")
    settings = dict(
        axis=3,
        normalizers=layer.pool,
        groups=layer.groups,
        epsilon=layer.epsilon,
        reduction=layer.resolved_reduction,
        mask=mask,
        batch_statistics=None if case.training else moving,
    )
    x, cotangent = x.astype("float64"), cotangent.astype("float64")
    result = reference.exemplar_normalization(x, weights, **settings)
    expected = {"outputs": result.outputs, "ratios": result.ratios}
    if case.is_small:
        dx, gradients = reference.gradients(x, weights, cotangent, **settings)
        expected |= {"dx": dx, **gradients}
    return expected
