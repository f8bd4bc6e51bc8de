"""Weight decay as a penalty, and rates of ratios, against a NumPy float64 oracle."""

import keras
import numpy as np
import pytest

from keras_en import (
    ExemplarNormalization,
    SparseSwitchableNormalization,
    SwitchableNormalization,
)
from keras_en.training.optimizers import RATIOS, SGD, Adam, is_ratio
from tests.backends import BACKEND, numpy

# Names as layers have them, and shapes; of `gamma` that of a pool.
SHAPES = {
    "kernel": (3, 2),
    "bias": (2,),
    "gamma": (3, 2),
    "beta": (2,),
    "ratio_conv": (2,),
    "ratio_hidden_kernel": (2, 3),
    "mean_logits": (3,),
}
STEPS = 4


def penalty(name, shape, l2, exclude, ratio_l2):
    if name in RATIOS and ratio_l2 is not None:
        return ratio_l2
    affine = name in ("gamma", "beta")
    without = {
        "norms": affine,
        "biases": name == "bias",
        "vectors": affine or len(shape) < 2,
    }
    return 0.0 if any(without[kind] for kind in exclude) else l2


def clipped(gradients, limit):
    of_ratios = [name for name in gradients if name in RATIOS]
    norm = np.sqrt(sum((gradients[name] ** 2).sum() for name in of_ratios))
    scale = min(1.0, limit / norm) if limit else 1.0
    return {n: g * (scale if n in of_ratios else 1.0) for n, g in gradients.items()}


def oracle(start, steps, rate, momentum=0.0, nesterov=False, **options):
    """What the docstrings say, in float64."""
    multiplier = options.get("ratio_lr_multiplier", 1.0)
    values = {name: value.copy() for name, value in start.items()}
    moments = {name: np.zeros_like(value) for name, value in start.items()}
    for gradients in steps:
        gradients = clipped(gradients, options.get("ratio_clipnorm"))
        for name, value in values.items():
            decay = penalty(
                name,
                value.shape,
                options.get("l2", 0.0),
                options.get("exclude", ()),
                options.get("ratio_l2"),
            )
            gradient = gradients[name] + decay * value
            own = rate * (multiplier if name in RATIOS else 1.0)
            moment = moments[name] = momentum * moments[name] - own * gradient
            values[name] = value + (
                momentum * moment - own * gradient if nesterov else moment
            )
    return values


@pytest.fixture
def problem(rng):
    def draw():
        return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}

    return draw(), [draw() for _ in range(STEPS)]


def trained(optimizer, start, steps):
    """The values after the steps, compiled where the backend compiles."""
    variables = [
        keras.Variable(value, name=name, dtype="float64")
        for name, value in start.items()
    ]
    optimizer.build(variables)
    for gradients in steps:
        _apply(optimizer, list(gradients.values()), variables)
    return {variable.name: numpy(variable.value) for variable in variables}


def _apply(optimizer, gradients, variables):
    if BACKEND == "jax":
        import jax

        values, slots = jax.jit(optimizer.stateless_apply)(
            [v.value for v in optimizer.variables],
            gradients,
            [v.value for v in variables],
        )
        pairs = [*zip(variables, values, strict=True)]
        pairs += zip(optimizer.variables, slots, strict=True)
        for variable, value in pairs:
            variable.assign(value)
        return
    gradients = [keras.ops.convert_to_tensor(g, "float64") for g in gradients]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.function(lambda *g: optimizer.apply(list(g), variables))(*gradients)
    else:
        optimizer.apply(gradients, variables)


def assert_oracle(options, problem):
    start, steps = problem
    values = trained(SGD(0.1, **options), start, steps)
    for name, expected in oracle(start, steps, 0.1, **options).items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-6, err_msg=name)


def test_one_step_by_hand():
    """`w - 0.5 (g + 0.1 w)` with `w = 2`, `g = 1`: 1.4."""
    values = trained(SGD(0.5, l2=0.1), {"kernel": np.full(1, 2.0)}, [{"g": np.ones(1)}])
    np.testing.assert_allclose(values["kernel"], [1.4], rtol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"l2": 0.1},
        {"l2": 0.1, "momentum": 0.9},
        {"l2": 0.1, "momentum": 0.9, "nesterov": True},
        {"l2": 0.1, "momentum": 0.9, "exclude": ("norms",)},
        {"l2": 0.1, "momentum": 0.9, "exclude": ("norms", "biases")},
        {"l2": 0.1, "momentum": 0.9, "exclude": ("vectors",)},
        {"l2": 0.1, "ratio_l2": 0.0, "momentum": 0.9},
        {"l2": 0.1, "ratio_l2": 0.3, "exclude": ("vectors",)},
        {"l2": 0.1, "momentum": 0.9, "ratio_lr_multiplier": 0.1},
        {"ratio_clipnorm": 0.5, "l2": 0.1, "ratio_lr_multiplier": 0.1},
        {"ratio_clipnorm": 1e3},
    ],
    ids=str,
)
def test_equals_the_oracle(options, problem):
    assert_oracle(options, problem)


def test_it_is_not_the_decoupled_decay_of_keras(problem):
    """Which behind momentum is another thing."""
    start, steps = problem
    ours = trained(SGD(0.1, momentum=0.9, l2=0.1), start, steps)
    theirs = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1)
    theirs = trained(theirs, start, steps)
    assert np.abs(ours["kernel"] - theirs["kernel"]).max() > 1e-3


def test_adam_sees_the_penalty_and_ratios_their_rate(problem):
    start, steps = problem
    penalized = {name: g + 0.1 * start[name] for name, g in steps[0].items()}
    plain = trained(keras.optimizers.Adam(0.1), start, [penalized])
    options = {"l2": 0.1, "ratio_lr_multiplier": 0.5}
    values = trained(Adam(0.1, **options), start, steps[:1])
    for name, before in start.items():
        share = 0.5 if name in RATIOS else 1.0
        expected = before + share * (plain[name] - before)
        np.testing.assert_allclose(values[name], expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "layer",
    [
        ExemplarNormalization(),
        ExemplarNormalization(ratio_head="mlp"),
        ExemplarNormalization(reduction=None),
        SwitchableNormalization(),
        SparseSwitchableNormalization(),
    ],
)
def test_the_variables_of_layers_that_learn_ratios(layer):
    """All but `gamma` and `beta`."""
    layer.build((None, 4, 4, 8))
    others = {v.name for v in layer.trainable_variables if not is_ratio(v)}
    assert others == {"gamma", "beta"}
    assert any(map(is_ratio, layer.trainable_variables))


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_configuration_goes_through_a_file(kind):
    optimizer = kind(
        0.1,
        l2=1e-4,
        exclude=("norms", "biases"),
        ratio_l2=0.0,
        ratio_lr_multiplier=0.1,
        ratio_clipnorm=1.0,
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is kind
    assert again.get_config() == optimizer.get_config()


def network(optimizer, synchronized=False):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6, 6, 3)),
        keras.layers.Conv2D(8, 3),
        ExemplarNormalization(synchronized=synchronized),
        keras.layers.Flatten(),
        keras.layers.Dense(3, "softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


OPTIONS = {
    "momentum": 0.9,
    "l2": 0.05,
    "exclude": ("norms",),
    "ratio_lr_multiplier": 0.1,
    "ratio_clipnorm": 0.01,
}


def values(model):
    return [numpy(v.value) for v in model.trainable_variables]


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_model_fit_ends_with_the_moving_average(rng, tmp_path):
    """Of two steps, the first of which begins it, and with momentum 0.5: their mean."""
    x, y = rng.normal(size=(8, 6, 6, 3)), rng.integers(0, 3, 8)
    after = []
    for epochs in (1, 2):
        model = network(SGD(0.1, **OPTIONS))
        model.fit(x, y, epochs=epochs, verbose=0)
        after.append(values(model))
    model = network(SGD(0.1, **OPTIONS, use_ema=True, ema_momentum=0.5))
    model.fit(x, y, epochs=2, verbose=0)
    assert_close(values(model), [(a + b) / 2 for a, b in zip(*after, strict=True)])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert_close(values(again), values(model))
    assert again.optimizer.get_config() == model.optimizer.get_config()


@pytest.mark.tensorflow
def test_two_replicas_step_as_one_device(rng, strategy):
    from keras_en import training

    x, y = rng.normal(size=(14, 6, 6, 3)).astype("float32"), rng.integers(0, 3, 14)
    one = network(SGD(0.1, **OPTIONS), synchronized=True)
    with strategy.scope():
        two = network(SGD(0.1, **OPTIONS), synchronized=True)
    for model in (one, two):
        training.fit(model, x, y, batch_size=5, epochs=2, verbose=0)
    assert_close(values(two), values(one))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`exclude` must be kinds out of"):
        SGD(0.1, exclude=("bias",))
    with pytest.raises(ValueError, match="`l2` must be of at least 0"):
        SGD(0.1, l2=-1)
    with pytest.raises(TypeError, match="`ratio_l2` must be a number"):
        SGD(0.1, ratio_l2="none")
