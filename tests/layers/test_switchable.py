"""Switchable Normalization, sparse or not, against the float64 oracle."""

import keras
import numpy as np
import pytest

from keras_en import SparseSwitchableNormalization, SwitchableNormalization
from keras_en.ops import ratios
from tests import backends, reference, reference_switchable
from tests.backends import images, numpy
from tests.layers.test_oracle import AXES, DTYPES, MASKED, POOLS, TOLERANCE, drawn
from tests.layers.test_oracle import assert_close as close

LAYERS = [SwitchableNormalization, SparseSwitchableNormalization]


def test_two_normalizers_by_hand():
    """Means and variances are mixed, then used: of instances 1 and 5, 1 and 1; of the
    batch 3 and 5; so 2 and 4, 3 and 3."""
    x = np.reshape([0.0, 2.0, 4.0, 6.0], (2, 2, 1)).astype("float32")
    layer = SwitchableNormalization(normalizers=["instance", "batch"], epsilon=1e-7)
    y = numpy(layer(x, training=True))
    expected = np.array([0 - 2, 2 - 2, 4 - 4, 6 - 4]) / np.sqrt(3)
    np.testing.assert_allclose(y.ravel(), expected, atol=1e-5)


def compare(
    cls, shape, axis, pool, training, masked, dtype, share=0.5, mode="eager", **options
):
    axis = axis % len(shape)
    rng, x, cotangent, mask = drawn(shape, axis, masked, dtype)
    layer = cls(
        axis=axis,
        normalizers=pool,
        groups=2,
        momentum=0.7,
        epsilon=0.02,
        dtype=dtype,
        **options,
    )
    layer.build(shape)
    weights = backends.randomize(layer, rng)
    radius = None
    if cls is SparseSwitchableNormalization:
        layer.set_radius(share)
        del weights["radius"]
        # In float32 the largest is a little more than that.
        radius = min(float(numpy(layer.radius)), ratios.circumradius(len(pool)))
    step = backends.step(Outputs(layer), x, cotangent, training, mask, mode)
    moving = {
        n: weights.pop(n) for n in ("moving_mean", "moving_variance") if n in weights
    }
    settings = dict(
        axis=axis, normalizers=pool, groups=2, epsilon=0.02, mask=mask, radius=radius
    )
    if not training and moving:
        settings["batch_statistics"] = moving["moving_mean"], moving["moving_variance"]
    expected = reference_switchable.switchable_normalization(x, weights, **settings)
    dx, gradients = reference_switchable.gradients(x, weights, cotangent, **settings)
    tolerance = TOLERANCE[dtype]
    close(step.outputs, expected.outputs, tolerance, "outputs")
    close(step.dx, dx, tolerance, "dx")
    assert sorted(step.gradients) == sorted(gradients)
    largest = max(np.abs(gradient).max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        # Those of logits cancel, to 0 where one or two ratios are left.
        scale = largest if "logits" in name else np.abs(gradient).max()
        difference = np.abs(step.gradients[name] - gradient).max()
        assert difference <= tolerance * max(scale, 1e-3), (name, difference, scale)
    learned = layer.ratios()
    close(numpy(learned["mean"]), expected.mean_ratios, tolerance, "mean ratios")
    close(
        numpy(learned["variance"]), expected.variance_ratios, tolerance, "their other"
    )
    batch = {
        "moving_mean": expected.batch_mean,
        "moving_variance": expected.batch_variance,
    }
    for name, old in moving.items():
        new = reference.moving_update(old, batch[name], 0.7) if training else old
        close(numpy(getattr(layer, name)), new, tolerance, name)


class Outputs:
    """A layer that returns ratios, which `step` asks for: none of them."""

    def __init__(self, layer):
        self.layer = layer
        self.compute_dtype = layer.compute_dtype

    def __getattr__(self, name):
        return getattr(self.layer, name)

    def __call__(self, *args, return_ratios=False, **kwargs):
        outputs = self.layer(*args, **kwargs)
        return outputs, outputs

    def stateless_call(self, *args, return_ratios=False, **kwargs):
        outputs, state = self.layer.stateless_call(*args, **kwargs)
        return (outputs, outputs), state


@pytest.mark.thorough(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", MASKED, ids="mask-{}".format)
@pytest.mark.parametrize("training", [True, False], ids="training-{}".format)
@pytest.mark.parametrize("pool", POOLS, ids="-".join)
@pytest.mark.parametrize("cls", LAYERS)
def test_every_pool(cls, pool, training, masked, dtype):
    compare(cls, (3, 2, 3, 4), -1, pool, training, masked, dtype)


@pytest.mark.parametrize("masked", MASKED, ids="mask-{}".format)
@pytest.mark.parametrize("rank, axis", AXES)
def test_every_rank_and_axis(rank, axis, masked):
    shape = [3, 2, 3, 2, 2][:rank]
    shape[axis] = 4
    pool = ("layer", "batch", "group") if rank == 2 else ("batch", "group", "instance")
    compare(SwitchableNormalization, tuple(shape), axis, pool, True, masked, DTYPES[-1])


@pytest.mark.parametrize("mode", backends.MODES)
@pytest.mark.parametrize("cls", LAYERS)
def test_every_mode(cls, mode):
    pool = ("instance", "layer", "batch")
    compare(cls, (4, 3, 2, 8), -1, pool, True, False, "float32", mode=mode)


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}], ids=str)
def test_every_switch(options):
    pool = ("layer", "batch")
    compare(LAYERS[0], (4, 3, 2, 8), -1, pool, True, False, DTYPES[-1], **options)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_every_radius(share):
    pool = ("instance", "layer", "batch")
    compare(LAYERS[1], (4, 3, 2, 8), -1, pool, True, False, DTYPES[-1], share)


def test_sparsestmax(rng):
    """Whatever the support, and where the sphere is not reached."""
    dtype = "float32" if backends.BACKEND == "torch" else "float64"
    supports = set()
    for _ in range(300):
        k = rng.integers(2, 5)
        z = rng.normal(size=k) * 10.0 ** rng.integers(-2, 2)
        radius = rng.random() * ratios.circumradius(k)
        expected = reference_switchable.sparsestmax(z, radius)
        tensors = (keras.ops.convert_to_tensor(v, dtype) for v in (z, radius))
        actual = numpy(ratios.sparsestmax(*tensors))
        tolerance = {"float64": 1e-12, "float32": 1e-4}[dtype]
        np.testing.assert_allclose(actual, expected, atol=tolerance)
        supports.add((int(k), int((expected > 0).sum())))
    assert supports == {(k, s) for k in range(2, 5) for s in range(1, k + 1)}


def test_equal_logits_stay_equal():
    """No direction leads away from them; nothing is NaN."""
    layer = SparseSwitchableNormalization()
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 8)).astype("float32")
    layer(x)
    layer.set_radius(0.5)
    step = backends.step(Outputs(layer), x, x, training=True)
    assert np.isfinite(step.outputs).all()
    assert all(np.isfinite(g).all() for g in step.gradients.values())
    np.testing.assert_allclose(numpy(layer.ratios()["mean"]), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("cls", LAYERS)
def test_counts_names_and_initial_ratios(cls):
    layer = cls(initial_ratios={"batch": 0.9})
    layer.build((None, 4, 4, 64))
    sizes = {v.name: tuple(v.shape) for v in layer.trainable_variables}
    assert sizes == {
        "gamma": (64,),
        "beta": (64,),
        "mean_logits": (3,),
        "variance_logits": (3,),
    }, "2 C + 2 K (Table 1)"
    for learned in layer.ratios().values():
        np.testing.assert_allclose(numpy(learned), [0.05, 0.05, 0.9], rtol=1e-5)


def test_one_normalizer_is_batch_normalization(rng):
    x = images(rng)
    ours = SwitchableNormalization(normalizers=("batch",))
    theirs = keras.layers.BatchNormalization()
    for layer in (ours, theirs):
        layer(x, training=True)
    names = [v.name for v in theirs.variables]
    assert [v.name for v in ours.variables] == names
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-5)
    for name in ("mean", "variance"):
        np.testing.assert_array_equal(numpy(ours.ratios()[name]), [1])


CONFIGS = {
    "defaults": {},
    "odd": dict(
        axis=1,
        momentum=0.9,
        epsilon=1e-5,
        center=False,
        gamma_regularizer="l2",
        normalizers=("batch", "group"),
        groups=2,
        initial_ratios={"batch": 0.9},
        name="odd",
        dtype="mixed_bfloat16",
    ),
    "one": dict(normalizers=("batch",), trainable=False),
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("cls", LAYERS)
def test_files(rng, tmp_path, cls, config):
    x = images(rng, (3, 4, 4, 4))
    model = keras.Sequential([keras.Input((4, 4, 4)), cls(**CONFIGS[config])])
    backends.randomize(model.layers[0], rng)
    if cls is SparseSwitchableNormalization:
        model.layers[0].set_radius(0.4)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.layers[0].get_config() == model.layers[0].get_config()
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_rounds_outputs_only(rng, cls, dtype):
    x = images(rng).astype("float16")
    layer, exact = cls(dtype=dtype), cls()
    outputs = layer(x, training=True)
    expected = numpy(exact(x.astype("float32"), training=True))
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype.split("_")[1]
    unit = {"mixed_float16": 2**-10, "mixed_bfloat16": 2**-7}[dtype]
    actual = numpy(keras.ops.cast(outputs, "float32"))
    assert np.abs(actual - expected).max() <= unit * np.abs(expected).max()
    np.testing.assert_allclose(
        numpy(layer.moving_variance), numpy(exact.moving_variance), rtol=1e-5
    )


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`initial_ratios` may name .*'bach'"):
        SwitchableNormalization(initial_ratios={"bach": 0.9})
    with pytest.raises(ValueError, match="`normalizers` must be a non-empty choice"):
        SparseSwitchableNormalization(normalizers=("bach",))
    layer = SparseSwitchableNormalization()
    layer.build((None, 4, 4, 8))
    with pytest.raises(ValueError, match=r"`share` must be in \[0, 1\]. Received"):
        layer.set_radius(1.5)
