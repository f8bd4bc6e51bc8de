"""The kernels of the ratio head: what they compute, as Pallas interprets them on a CPU,
and that a program for CUDA has them."""

import keras
import numpy as np
import pytest

from benchmarks import targets
from keras_en import ExemplarNormalization
from keras_en.ops import platforms, tracing
from tests import backends, reference
from tests.backends import images
from tests.layers.test_oracle import assert_close, head_of

pytestmark = pytest.mark.skipif(
    backends.BACKEND != "jax", reason="kernels in the language of JAX"
)
POOL = ("instance", "layer", "batch")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with one, as far as layers can see."""
    monkeypatch.setattr(tracing, "platform", lambda: "gpu")


@pytest.fixture
def interpreted(gpu, monkeypatch):
    """What CUDA devices would run runs here. The list of what did."""
    from jax.experimental import pallas

    calls, call = [], pallas.pallas_call

    def interpreted(kernel, **kwargs):
        calls.append(kernel.__qualname__.split(".")[1])
        return call(kernel, **kwargs, interpret=True)

    def run(name, *tensors, programs):
        return programs.on_cuda(*tensors)

    monkeypatch.setattr(pallas, "pallas_call", interpreted)
    monkeypatch.setattr(platforms, "run", run)
    # Programs that were lowered before, or will be behind this test.
    for clear in (platforms.of_jax.cache_clear, _clear_programs):
        clear()
    yield calls
    for clear in (platforms.of_jax.cache_clear, _clear_programs):
        clear()


def _clear_programs():
    import jax

    jax.clear_caches()


CASES = {
    "default": dict(),
    "power of two": dict(channels=16, reduction=4),
    "other channels": dict(channels=12, reduction=2),
    "without convolution": dict(reduction=None),
    "relu": dict(ratio_activation="relu"),
    "two": dict(normalizers=("layer", "batch")),
    "groups": dict(normalizers=("group", "instance", "layer", "batch"), channels=8),
    "without batch": dict(normalizers=("instance", "layer")),
    "shared": dict(share_affine=True),
    "bare": dict(center=False, scale=False),
}


@pytest.mark.parametrize("state", ["training", "inference"])
@pytest.mark.parametrize("case", CASES)
def test_against_the_oracle(case, state, rng, interpreted):
    options = {"reduction": 2, "normalizers": POOL, **CASES[case]}
    shape = (3, 4, 2, options.pop("channels", 8))
    layer = ExemplarNormalization(groups=2, epsilon=0.02, expansion=5, **options)
    layer.build(shape)
    weights = backends.randomize(layer, rng)
    x, cotangent = images(rng, shape), images(rng, shape)
    step = backends.step(layer, x, cotangent, state == "training", mode="jit")
    assert (
        set(interpreted) >= {"forward_kernel", "backward_kernel"}
        if (state == "training")
        else {"forward_kernel"}
    )

    moving = [weights.pop(n, None) for n in ("moving_mean", "moving_variance")]
    settings = dict(axis=3, normalizers=layer.pool, groups=2, epsilon=0.02)
    settings |= head_of(layer)
    if state == "inference" and moving[0] is not None:
        settings["batch_statistics"] = tuple(moving)
    expected = reference.exemplar_normalization(x, weights, **settings)
    dx, gradients = reference.gradients(x, weights, cotangent, **settings)
    assert_close(step.outputs, expected.outputs, 2e-5, "outputs")
    assert_close(step.ratios, expected.ratios, 2e-5, "ratios")
    assert_close(step.dx, dx, 2e-5, "dx")
    for name, gradient in gradients.items():
        assert_close(step.gradients[name], gradient, 2e-5, name)


def function_of(layer, x):
    """The layer in training as a function of its weights and input."""
    layer.build(x.shape)
    state = [v.value for v in layer.non_trainable_variables]
    weights = [v.value for v in layer.trainable_variables]

    def function(weights, x):
        return layer.stateless_call(weights, state, x, training=True)[0]

    return function, weights


@pytest.mark.parametrize("training", [False, True])
def test_a_program_for_cuda_has_them(training, rng, gpu):
    import jax

    x = images(rng, (3, 4, 4, 8))
    function, weights = function_of(ExemplarNormalization(), x)
    run = function
    if training:

        def run(weights, x):
            return jax.grad(lambda w: (function(w, x) ** 2).sum())(weights)

    with targets.described():
        lowered = jax.jit(run).trace(weights, x)
        text = lowered.lower(lowering_platforms=("cuda",)).as_text()
    # A function a kernel, which XLA inlines.
    assert text.count("stablehlo.custom_call") == 1 + training
    assert "custom_call" not in lowered.lower(lowering_platforms=("cpu",)).as_text()


def test_derivatives_and_batches_are_those_of_the_plain_form(rng, monkeypatch):
    """Forward mode, second derivatives and `vmap`, in float32."""
    import jax

    x, dx = images(rng, (2, 3, 3, 8)), images(rng, (2, 3, 3, 8))
    function, weights = function_of(ExemplarNormalization(expansion=2), x)

    def loss(x):
        return (function(weights, x) ** 3).sum()

    def every():
        jax.clear_caches()
        return [
            jax.jit(lambda x: jax.jvp(lambda x: function(weights, x), (x,), (dx,)))(x),
            jax.jit(jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum()))(x),
            jax.jit(jax.vmap(jax.grad(loss)))(np.stack([x, dx])),
        ]

    plain = every()
    monkeypatch.setattr(tracing, "platform", lambda: "gpu")
    jax.clear_caches()
    assert "keras_en_programs" in str(jax.make_jaxpr(jax.grad(loss))(x))
    for one, other in zip(
        jax.tree.leaves(every()), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"normalizers": ["instance"]},
        {"ratio_head": "mlp"},
        {"ratio_activation": "gelu"},
        {"reduction": 3},
        {"normalizers": ["group", "layer"], "groups": 3},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_what_they_are_not_for_is_plain(options, rng, gpu):
    import jax

    x = images(rng, (2, 3, 3, 12))
    function, weights = function_of(ExemplarNormalization(**options), x)
    assert "keras_en_programs" not in str(jax.make_jaxpr(function)(weights, x))


def test_with_many_devices_it_is_plain(rng, gpu):
    import jax

    x = images(rng, (2, 3, 3, 8))
    with keras.distribution.DataParallel(devices=["cpu:0"]).scope():
        function, weights = function_of(ExemplarNormalization(), x)
        assert "keras_en_programs" not in str(jax.make_jaxpr(function)(weights, x))


def test_the_device_that_is_asked_for(monkeypatch):
    import jax

    assert tracing.platform() == "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert tracing.platform() == "gpu"
    for device in (jax.devices("cpu")[0], "cpu"):
        with jax.default_device(device):
            assert tracing.platform() == "cpu"


def test_products_keep_the_precision_of_their_dtype(rng):
    """JAX's default on a GPU is TF32, on a TPU bfloat16: the plain head must not be
    computed so, forward or backward."""
    import jax

    layer = ExemplarNormalization()
    x = images(rng, (2, 4, 4, 8))
    layer.build(x.shape)
    variables = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def loss(variables, x):
        return layer.stateless_call(variables, others, x, training=True)[0].sum()

    program = str(jax.make_jaxpr(jax.grad(loss))(variables, x))
    products = program.count("dot_general")
    assert products >= 6 and program.count("Precision.HIGHEST") >= products
