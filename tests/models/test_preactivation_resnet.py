"""Pre-activation networks, and Batch Kalman Normalization in a whole one."""

import math

import keras
import numpy as np
import pytest

from keras_en import BatchKalmanNormalization
from keras_en.models import CifarPreactivationResNet, CifarResNet
from keras_en.models.norms import NAMES
from tests.backends import BACKEND, images, numpy
from tests.models.networks import names, norms, outline
from tests.reference_kalman import preactivation_resnet

DTYPE = "float32" if BACKEND == "torch" else "float64"
# Of float64 Keras computes means in float32 on JAX, as the pooling at the end.
TOLERANCE = {"tensorflow": 1e-9, "jax": 1e-6, "torch": 1e-4}[BACKEND]
KALMAN = {"norm": "bkn", "norm_kwargs": {"split": 2, "p": 0.9, "momentum": 0.5}}
SHAPE = (9, 8, 3)


def trainable(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def test_eight_layers_by_hand():
    """2 in each of 3 blocks and a last one; 11 to 6 and 3 pixels a side."""
    model = CifarPreactivationResNet(8, input_shape=(11, 11, 3), norm="bn")
    sizes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert sum(name.endswith("_norm") for name in sizes) == 2 * 3 + 1
    assert sizes["stage1_block1_add"] == (11, 11, 16)
    assert sizes["stage2_block1_add"] == (6, 6, 32)
    assert sizes["last_relu"] == (3, 3, 64)
    assert model.name == "cifar_preactivation_resnet8_bn"


@pytest.mark.parametrize("depth", [8, 20])
def test_parameters(depth):
    """Those of `CifarResNet` but for gamma and beta: 16 of its stem, shortcuts of 32
    and 64 without, 16 and 32 before those, 64 at the end. No matrix `A`."""
    plain = trainable(outline(CifarResNet, depth=depth, norm="bn"))
    fewer = 2 * (16 + (16 + 32 + 64) + 32 + 64)
    more = 2 * (16 + 16 + 32 + 64)
    for norm in ("bn", "bkn"):
        model = outline(CifarPreactivationResNet, depth=depth, norm=norm)
        assert trainable(model) == plain - fewer + more
        assert len(norms(model)) == depth - 1


@pytest.fixture(scope="module")
def model():
    """In float64, with weights far from those it starts with."""
    keras.config.set_dtype_policy(DTYPE)
    try:
        model = CifarPreactivationResNet(8, input_shape=SHAPE, classes=4, **KALMAN)
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape))
    return model


@pytest.fixture(scope="module")
def x():
    # Exact in float32, which the input of a network has.
    return images(np.random.default_rng(2), (4, *SHAPE)).astype(DTYPE)


def noise_of(model):
    """What each layer that draws will draw next, by its name."""
    result = {}
    for layer in model.layers:
        if layer.name.endswith("_sample"):
            generator = keras.random.SeedGenerator(0)
            generator.state.assign(layer.seed_generator.state)
            shape = layer.output.shape
            noise = keras.random.normal(shape, dtype=DTYPE, seed=generator)
            result[layer.name] = numpy(noise)
    return result


def weights_of(model):
    """By layer and name."""
    return {
        f"{layer.name}/{variable.name}": numpy(variable)
        for layer in model.layers
        for variable in layer.trainable_variables
    }


def reference_of(model, x, weights=None, noise=None):
    weights = weights_of(model) if weights is None else weights
    noise = noise_of(model) if noise is None else noise
    return preactivation_resnet(x, weights, noise, depth=8, split=2, p=0.9)


@pytest.mark.thorough
@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_of_predictions(model, x, compiled):
    """Probabilities and moving statistics against the oracle; new noise in each call.

    `train_on_batch` without a learning rate is a call in graph mode or in XLA.
    """
    for _ in range(2):
        before = {
            layer.name: [numpy(layer.moving_mean), numpy(layer.moving_variance)]
            for layer in norms(model)
        }
        outputs, moments = reference_of(model, x)
        if compiled:
            model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy")
            loss = float(np.asarray(model.train_on_batch(x, np.eye(4))))
            expected = -np.log(np.diag(outputs)).mean()
            np.testing.assert_allclose(loss, expected, rtol=1e-5)
        else:
            y = numpy(model(x, training=True))
            np.testing.assert_allclose(y, outputs, rtol=TOLERANCE)
        for layer in norms(model):
            pair = (layer.moving_mean, layer.moving_variance)
            values = zip(pair, before[layer.name], moments[layer.name], strict=True)
            for variable, old, new in values:
                expected = (old + new[0]) / 2
                np.testing.assert_allclose(numpy(variable), expected, rtol=TOLERANCE)


def test_gradients_reach_through_predictions(model, x):
    """The derivative of the loss along a random direction, by the complex step."""
    rng, weights = np.random.default_rng(3), weights_of(model)
    directions = {name: rng.normal(size=w.shape) for name, w in weights.items()}
    nudged = {name: w + 1e-30j * directions[name] for name, w in weights.items()}
    outputs, _ = reference_of(model, x, nudged)
    expected = np.sum(np.log(np.diagonal(outputs))).imag / 1e-30
    gradients = gradients_of(model, x)
    pairs = zip(gradients, directions.values(), strict=True)
    derivative = sum(np.sum(numpy(gradient) * d) for gradient, d in pairs)
    np.testing.assert_allclose(derivative, expected, rtol=10 * TOLERANCE)


def gradients_of(model, x):
    """Of the sum of the logarithms of the diagonal, in training; in the order of
    layers."""
    variables = [v for layer in model.layers for v in layer.trainable_variables]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            y = model(x, training=True)
            loss = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(y)))
        return tape.gradient(loss, [v.value for v in variables])
    if BACKEND == "torch":
        import torch

        y = model(torch.tensor(x), training=True)
        loss = torch.log(torch.diagonal(y)).sum()
        return torch.autograd.grad(loss, [v.value for v in variables])
    import jax

    order = {id(v): i for i, v in enumerate(model.trainable_variables)}

    def loss(values):
        y, _ = model.stateless_call(values, state, x, training=True)
        return jax.numpy.log(jax.numpy.diagonal(y)).sum()

    state = [v.value for v in model.non_trainable_variables]
    gradients = jax.jit(jax.grad(loss))([v.value for v in model.trainable_variables])
    return [gradients[order[id(v)]] for v in variables]


@pytest.mark.slow
def test_a_file_and_training(x, tmp_path):
    """It learns four images, and a file is the same network."""
    model = CifarPreactivationResNet(8, input_shape=SHAPE, classes=4, **KALMAN)
    loss, compiler = "sparse_categorical_crossentropy", BACKEND == "jax"
    model.compile(keras.optimizers.SGD(0.1, 0.9), loss, jit_compile=compiler)
    history = model.fit(x, np.arange(4), epochs=20, batch_size=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert names(again) == names(model)
    y = numpy(model(x[:3]))  # no micro-batches in inference
    np.testing.assert_array_equal(numpy(again(x[:3])), y)


@pytest.mark.parametrize("norm", ["en", BatchKalmanNormalization])
def test_another_normalization(rng, norm):
    """Without predictions: they come by the name "bkn"."""
    model = CifarPreactivationResNet(8, norm=norm, input_shape=(None, None, 3))
    assert not any(name.endswith("_sample") for name in names(model))
    assert numpy(model(images(rng, (2, 9, 8, 3)))).shape == (2, 10)


def test_images_of_any_size(rng):
    model = CifarPreactivationResNet(8, input_shape=(None, None, 3), **KALMAN)
    for size in (8, 11):
        assert numpy(model(images(rng, (2, size, 9, 3)), training=True)).shape == (
            2,
            10,
        )
    assert all(np.isfinite(numpy(w)).all() for w in model.weights)


def test_channels_first(rng, data_format):
    if BACKEND == "torch":
        pytest.skip("no channels first on a CPU")
    last = CifarPreactivationResNet(8, input_shape=SHAPE, **KALMAN)
    data_format("channels_first")
    first = CifarPreactivationResNet(8, input_shape=(3, 9, 8), **KALMAN)
    assert {layer.axis for layer in norms(first)} == {1}
    first.set_weights(last.get_weights())
    x = images(rng, (4, *SHAPE))
    expected = numpy(last(x))
    y = numpy(first(np.moveaxis(x, -1, 1)))
    np.testing.assert_allclose(y, expected, rtol=1e-4)


def test_wrong_norms():
    allowed = "one of " + str((*NAMES, "bkn")).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=allowed):
        CifarPreactivationResNet(8, norm="xn")
    with pytest.raises(ValueError, match="Received: norm='bkn'"):
        CifarResNet(8, norm="bkn")
    with pytest.raises(ValueError, match="`depth` must be 6 n"):
        CifarPreactivationResNet(9, norm="bkn")
