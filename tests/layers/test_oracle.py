"""The layer against the float64 oracle: outputs, all gradients, moving statistics."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_en import ExemplarNormalization
from keras_en.ops import tracing
from tests import backends, reference

POOLS = [
    pool
    for k in range(1, 5)
    for pool in itertools.combinations(("instance", "layer", "group", "batch"), k)
]
AXES = [(2, 1), (3, -1), (3, 1), (4, -1), (4, 1), (4, 2), (5, -1), (5, 1), (5, 3)]
STATES = ("training", "inference", "frozen")
DTYPES = ["float64", "float32"]
MASKED = [False, True]
EXAMPLES = 60
if backends.BACKEND == "jax":
    # The formulas are the same code; here the backend is under test. Every case
    # compiles, so fewer of them.
    POOLS = [pool for pool in POOLS if len(pool) in (1, 4)]
    DTYPES = ["float64"]
    MASKED = [True]
    EXAMPLES = 8
elif backends.BACKEND == "torch":
    # Keras computes float64 sums in float32 there, and a frozen weight has no gradient.
    DTYPES = ["float32"]
    STATES = ("training", "inference")
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}


def test_two_normalizers_by_hand():
    """Two images of two pixels: instances are [-1, 1] both, the batch has mean 3 and
    variance 5, and the ratios start at 1/2 each."""
    x = np.reshape([0.0, 2.0, 4.0, 6.0], (2, 2, 1)).astype("float32")
    layer = ExemplarNormalization(normalizers=["instance", "batch"], epsilon=1e-7)
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    instance = np.array([-1, 1, -1, 1])
    batch = np.array([-3, -1, 1, 3]) / np.sqrt(5)
    np.testing.assert_allclose(y.ravel(), (instance + batch) / 2, atol=1e-5)


def assert_close(actual, expected, tolerance, name):
    """Largest difference, relative to the largest value."""
    assert actual.shape == expected.shape, name
    scale = np.abs(expected).max()
    difference = np.abs(actual - expected).max()
    assert difference <= tolerance * max(scale, 1e-3), (name, difference, scale)


def drawn(shape, axis, masked, dtype, seed=0):
    """The generator, an input, a cotangent, and a mask that leaves a position of every
    sample, or `None`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.5, 1.5, shape).astype(dtype)
    cotangent = rng.normal(size=shape).astype(dtype)
    mask = None
    if masked:
        mask = rng.random(shape[:-1]) < 0.6
        mask.reshape(shape[0], -1)[:, 0] = True
    return rng, x, cotangent, mask


def stepped(layer, x, cotangent, mask, state):
    """A step of the layer in this state, with the gradients of all weights."""
    if state != "frozen":
        return backends.step(layer, x, cotangent, state == "training", mask)
    # Frozen weights still have gradients; Keras only lists them elsewhere.
    layer.trainable = True
    variables = list(layer.trainable_variables)
    layer.trainable = False
    return backends.step(_Frozen(layer, variables), x, cotangent, True, mask)


def head_of(layer):
    """The arguments of the oracle that say how a layer computes its ratios."""
    return dict(
        reduction=layer.resolved_reduction,
        ratio_head=layer.ratio_head,
        ratio_activation=keras.activations.serialize(layer.ratio_activation),
        share_affine=layer.share_affine,
    )


def compare(
    shape, axis, pool, state, masked, dtype="float64", seed=0, epsilon=0.02, **options
):
    axis = axis % len(shape)
    rng, x, cotangent, mask = drawn(shape, axis, masked, dtype, seed)
    if backends.BACKEND == "jax" and dtype == "float64":
        # `keras.ops.tanh` computes float64 in float32 on JAX.
        options.setdefault("ratio_activation", "relu")
    layer = ExemplarNormalization(
        axis=axis,
        normalizers=pool,
        groups=2,
        expansion=2,
        momentum=0.7,
        epsilon=epsilon,
        dtype=dtype,
        trainable=state != "frozen",
        **options,
    )
    layer.build(shape)
    weights = backends.randomize(layer, rng)
    step = stepped(layer, x, cotangent, mask, state)
    moving = {
        n: weights.pop(n) for n in ("moving_mean", "moving_variance") if n in weights
    }
    settings = dict(axis=axis, normalizers=pool, groups=2, epsilon=epsilon, mask=mask)
    settings.update(head_of(layer))
    if state != "training" and moving:
        settings["batch_statistics"] = moving["moving_mean"], moving["moving_variance"]
    expected = reference.exemplar_normalization(x, weights, **settings)
    dx, gradients = reference.gradients(x, weights, cotangent, **settings)

    tolerance = TOLERANCE[dtype]
    assert_close(step.outputs, expected.outputs, tolerance, "outputs")
    assert_close(step.ratios, expected.ratios, tolerance, "ratios")
    assert_close(step.dx, dx, tolerance, "dx")
    assert sorted(step.gradients) == sorted(gradients)
    for name, gradient in gradients.items():
        assert_close(step.gradients[name], gradient, tolerance, name)
    batch = {
        "moving_mean": expected.batch_mean,
        "moving_variance": expected.batch_variance,
    }
    for name, old in moving.items():
        new = reference.moving_update(old, batch[name], 0.7)
        now = np.asarray(keras.ops.convert_to_numpy(getattr(layer, name).value))
        assert_close(now, new if state == "training" else old, tolerance, name)


class _Frozen:
    """A frozen layer whose weights are listed as trainable, to differentiate by."""

    def __init__(self, layer, variables):
        self.layer = layer
        self.trainable_variables = variables
        self.non_trainable_variables = [
            v for v in layer.variables if all(v is not other for other in variables)
        ]
        self.compute_dtype = layer.compute_dtype

    def __call__(self, *args, **kwargs):
        return self.layer(*args, **kwargs)

    def stateless_call(self, trainable, state, *args, **kwargs):
        # Frozen layers list all variables as non-trainable, in `variables`' order.
        values = {
            id(v): t for v, t in zip(self.trainable_variables, trainable, strict=True)
        }
        values.update(
            {id(v): t for v, t in zip(self.non_trainable_variables, state, strict=True)}
        )
        ordered = [values[id(v)] for v in self.layer.non_trainable_variables]
        outputs, _ = self.layer.stateless_call([], ordered, *args, **kwargs)
        return outputs, state


@pytest.mark.thorough(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", MASKED, ids="mask-{}".format)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("pool", POOLS, ids="-".join)
def test_every_pool(pool, state, masked, dtype):
    compare((3, 2, 3, 4), -1, pool, state, masked, dtype)


@pytest.mark.thorough(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", MASKED, ids="mask-{}".format)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("rank, axis", AXES)
def test_every_rank_and_axis(rank, axis, state, masked, dtype):
    shape = [3, 2, 3, 2, 2][:rank]
    shape[axis] = 4
    pool = ("layer", "batch", "group") if rank == 2 else ("batch", "group", "instance")
    compare(tuple(shape), axis, pool, state, masked, dtype)


@pytest.mark.parametrize("masked", [False, True], ids="mask-{}".format)
@pytest.mark.parametrize("state", ["training", "inference"])
@pytest.mark.parametrize("rank, axis", [(3, -1), (3, 1), (4, -1), (4, 1), (5, 3)])
def test_one_reading(rank, axis, state, masked, monkeypatch):
    """As XLA for a GPU or TPU traces it."""
    monkeypatch.setattr(tracing, "is_fusing", lambda: True)
    test_every_rank_and_axis(rank, axis, state, masked, DTYPES[0])


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": 4},
        {"reduction": 1},
        {"reduction": None},
        {"ratio_activation": "relu"},
        {"share_affine": True},
        {"ratio_head": "mlp"},
        {"center": False},
        {"scale": False},
        {"share_affine": True, "center": False, "reduction": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", sorted({"float32", *DTYPES}))
def test_every_switch(options, dtype):
    pool = ("instance", "layer", "batch")
    compare((4, 3, 2, 8), -1, pool, "training", False, dtype, **options)


@st.composite
def cases(draw):
    rank = draw(st.integers(2, 5))
    axis = draw(st.integers(1, rank - 1))
    shape = [draw(st.integers(1, 4))] + [
        draw(st.integers(1, 3)) for _ in range(rank - 1)
    ]
    shape[axis] = 2 * draw(st.integers(1, 3))
    names = ["layer", "group", "batch"] + ["instance"] * (rank > 2)
    pool = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    return dict(
        shape=tuple(shape),
        axis=axis - rank * draw(st.booleans()),
        pool=tuple(pool),
        state=draw(st.sampled_from(STATES)),
        masked=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
        share_affine=draw(st.booleans()),
        epsilon=draw(st.sampled_from([1e-3, 1e-5, 0.3])),
        ratio_head=draw(st.sampled_from(["correlation", "mlp"])),
        reduction=draw(st.sampled_from([1, 2])),
        scale=draw(st.booleans()),
        center=draw(st.booleans()),
    )


@pytest.mark.skipif("float64" not in DTYPES, reason="no float64 on this backend")
# The time of a case is that of building and tracing: not a property under test.
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cases())
def test_any_case(case):
    compare(**case)
