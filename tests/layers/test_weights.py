"""Weights: names, shapes, counts, configuration and files."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends
from tests.backends import images, numpy


def test_a_count_by_hand():
    """Table 1: 2 K C + C + Psi(K), with K = 3, C = 64 and Psi(3) = 1953."""
    layer = ExemplarNormalization()
    layer.build((None, 8, 8, 64))
    assert 2 * 3 * 64 + 64 + 1953 == 2401
    assert sum(np.prod(v.shape) for v in layer.trainable_variables) == 2401
    moving = [v.name for v in layer.non_trainable_variables]
    assert moving == ["moving_mean", "moving_variance"]


@pytest.mark.parametrize(
    "channels, pool, expansion, options, trainable, fixed",
    [
        # 2 * 3 * 64 + 64 + 1953: Table 1 with Psi(3) = 1953 at pi = 50
        (64, ("instance", "layer", "batch"), 50, {}, 2401, 128),
        (256, ("instance", "layer", "batch"), 50, {"reduction": 32}, 3745, 512),
        (2048, ("instance", "layer", "batch"), 50, {"reduction": 2}, 16289, 4096),
        # 2 * 3 * 64 + 64 + (9 * 3 + 3 + 3 * 3 + 3 = 42)
        (64, ("instance", "layer", "batch"), 1, {}, 490, 128),
        # 2 * 3 * 64 + 64 + (9 * 300 + 300 + 300 * 3 + 3 = 3903)
        (64, ("instance", "layer", "batch"), 100, {}, 4351, 128),
        # 2 * 4 * 64 + 64 + (16 * 200 + 200 + 200 * 4 + 4 = 4204)
        (64, ("instance", "layer", "group", "batch"), 50, {}, 4780, 128),
        # 2 * 2 * 16 + 16 + (4 * 100 + 100 + 100 * 2 + 2 = 702)
        (16, ("layer", "batch"), 50, {}, 782, 32),
        # 2 * 1 * 16 + 16 + (1 * 50 + 50 + 50 * 1 + 1 = 151)
        (16, ("batch",), 50, {}, 199, 32),
        # without "batch" nothing moves
        (16, ("instance", "layer"), 50, {}, 782, 0),
        # Table 9b, no convolution: C fewer
        (64, ("instance", "layer", "batch"), 50, {"reduction": None}, 2337, 128),
        # Table 9d, single gamma and beta: 2 * 64 + 64 + 1953
        (64, ("instance", "layer", "batch"), 50, {"share_affine": True}, 2145, 128),
        # Table 9a, C -> C / 32 -> K: 2 * 3 * 64 + (64 * 2 + 2 + 2 * 3 + 3 = 139)
        (64, ("instance", "layer", "batch"), 50, {"ratio_head": "mlp"}, 523, 128),
        # 3 * 64 + 64 + 1953
        (64, ("instance", "layer", "batch"), 50, {"center": False}, 2209, 128),
    ],
)
def test_counts(channels, pool, expansion, options, trainable, fixed):
    layer = ExemplarNormalization(
        normalizers=pool, expansion=expansion, groups=16, **options
    )
    layer.build((None, None, None, channels))

    def count(variables):
        return sum(int(np.prod(v.shape)) for v in variables)

    assert count(layer.trainable_variables) == trainable
    assert count(layer.non_trainable_variables) == fixed


def test_names_and_shapes():
    layer = ExemplarNormalization(expansion=7)
    layer.build((None, 4, 4, 12))
    assert {v.name: tuple(v.shape) for v in layer.variables} == {
        "gamma": (3, 12),
        "beta": (3, 12),
        "moving_mean": (12,),
        "moving_variance": (12,),
        "ratio_conv": (12,),
        "ratio_hidden_kernel": (9, 21),
        "ratio_hidden_bias": (21,),
        "ratio_output_kernel": (21, 3),
        "ratio_output_bias": (3,),
    }


def test_initial_values():
    constants = dict(gamma=2.0, beta=3.0, moving_mean=4.0, moving_variance=5.0)
    initializers = {
        f"{name}_initializer": keras.initializers.Constant(value)
        for name, value in constants.items()
    }
    layer = ExemplarNormalization(**initializers)
    layer.build((None, 4, 4, 8))
    for name, value in constants.items():
        np.testing.assert_array_equal(numpy(getattr(layer, name)), value)


def test_the_signature_is_that_of_batch_normalization():
    import inspect

    ours = inspect.signature(ExemplarNormalization).parameters
    theirs = inspect.signature(keras.layers.BatchNormalization).parameters
    for name in theirs:
        assert ours[name].default == theirs[name].default, name
    shared = [name for name in theirs if not name.startswith("renorm")]
    assert list(ours)[:14] == shared[:-1], "in the same order"


def test_seeds_of_other_layers_stay_and_heads_differ():
    """What is drawn behind the layer is drawn as without it; the same seed makes the
    same layers again, whatever Keras numbers them with."""

    def drawn(*names):
        keras.utils.set_random_seed(5)
        layers = [ExemplarNormalization(name=name) for name in names]
        for layer in layers:
            layer.build((None, 4, 4, 8))
        dense = keras.layers.Dense(3)
        dense.build((None, 8))
        heads = [numpy(layer.ratio_hidden_kernel) for layer in layers]
        return numpy(dense.kernel), *heads

    (alone,) = drawn()
    behind, one, two = drawn("a", "b")
    np.testing.assert_array_equal(alone, behind)
    assert np.abs(one - two).max() > 0.01
    inputs = [keras.Input((4, 4, 8))]
    for _ in range(2):
        inputs += [keras.layers.Conv2D(8, 3, padding="same"), ExemplarNormalization()]
    late = keras.Sequential(inputs)
    one, two = (numpy(late.layers[i].ratio_hidden_kernel) for i in (1, 3))
    assert np.abs(one - two).max() > 0.01, "made together, built together"
    behind, first = drawn(None)
    np.testing.assert_array_equal(alone, behind)
    np.testing.assert_array_equal(first, drawn(None)[1])


def test_ratio_initializer_may_be_a_function():
    layer = ExemplarNormalization(
        ratio_initializer=lambda shape, dtype=None: keras.ops.full(shape, 0.5, dtype)
    )
    layer.build((None, 4, 4, 8))
    for learned in (layer.ratio_conv, layer.ratio_hidden_kernel):
        np.testing.assert_array_equal(numpy(learned), 0.5)
    np.testing.assert_array_equal(numpy(layer.ratio_output_kernel), 0)


def test_regularizers_and_constraints(rng):
    layer = ExemplarNormalization(
        gamma_regularizer=keras.regularizers.L2(0.5),
        beta_initializer="ones",
        beta_regularizer=keras.regularizers.L1(0.25),
        ratio_regularizer=keras.regularizers.L2(1.0),
        gamma_constraint=keras.constraints.NonNeg(),
        beta_constraint="unit_norm",
    )
    layer(images(rng))
    layer.ratio_output_kernel.assign(layer.ratio_output_kernel + 0.5)
    # gamma: 0.5 * 24; beta: 0.25 * 24; ratio kernels: the sum of their squares
    ratio = sum(
        np.square(numpy(v)).sum()
        for v in (
            layer.ratio_conv,
            layer.ratio_hidden_kernel,
            layer.ratio_output_kernel,
        )
    )
    np.testing.assert_allclose(sum(map(numpy, layer.losses)), 18 + ratio, rtol=1e-5)
    assert isinstance(layer.gamma.constraint, keras.constraints.NonNeg)
    assert isinstance(layer.beta.constraint, keras.constraints.UnitNorm)


@pytest.mark.parametrize(
    "channels, reduction",
    [
        (1, 1),
        (2, 1),
        (3, 1),
        (12, 6),
        (16, 8),
        (24, 12),
        (58, 29),
        (64, 32),
        (2048, 32),
    ],
)
def test_auto_reduction(channels, reduction):
    from keras_en.ops.ratios import resolve_reduction

    assert resolve_reduction("auto", channels) == reduction


CONFIGS = [
    {},
    dict(
        axis=1,
        momentum=0.9,
        epsilon=1e-5,
        center=False,
        gamma_initializer=keras.initializers.Constant(2.0),
        gamma_regularizer="l2",
        gamma_constraint="non_neg",
        normalizers=("batch", "group"),
        groups=2,
        reduction=2,
        expansion=3,
        ratio_activation="relu",
        ratio_initializer="he_normal",
        ratio_regularizer=keras.regularizers.L1(0.1),
        initial_ratios={"batch": 0.9},
        name="odd",
        dtype="mixed_bfloat16",
    ),
    dict(ratio_head="mlp", share_affine=True, scale=False, trainable=False),
    dict(reduction=None, synchronized=keras.backend.backend() != "torch"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["defaults", "odd", "mlp", "plain"])
def test_config_round_trip(config):
    layer = ExemplarNormalization(**config)
    saved = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == layer.get_config()
    assert saved["registered_name"] == "keras_en>ExemplarNormalization"
    import inspect

    parameters = inspect.signature(ExemplarNormalization).parameters
    named = set(parameters) - {"kwargs"}
    assert named <= set(layer.get_config()), "every argument is saved"


@pytest.mark.parametrize("config", CONFIGS, ids=["defaults", "odd", "mlp", "plain"])
def test_keras_file_round_trip(rng, tmp_path, config):
    x = images(rng, (3, 4, 4, 4))
    model = keras.Sequential(
        [keras.Input((4, 4, 4)), ExemplarNormalization(**config)], name="m"
    )
    backends.randomize(model.layers[0], rng)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))
    model.save_weights(tmp_path / "m.weights.h5")
    fresh = keras.models.clone_model(model)
    fresh.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(numpy(fresh(x)), numpy(model(x)))


def test_fit_evaluate_predict(rng):
    x, y = images(rng, (16, 6, 6, 3)), rng.integers(0, 2, 16)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(8, 3),
            ExemplarNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    assert model.layers[1].supports_jit
    history = model.fit(x, y, epochs=4, batch_size=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert np.isfinite(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(model.predict(x, verbose=0), numpy(model(x)), atol=1e-5)
