"""`BatchKalmanNormalization` and its prediction against the float64 oracle."""

import re

import keras
import numpy as np
import pytest

from keras_en import BatchKalmanNormalization
from keras_en.layers import KalmanMoments, KalmanSample
from tests import reference
from tests.backends import BACKEND, MODES, images, numpy
from tests.reference_kalman import (
    convolution,
    image_moments,
    kalman_normalization,
    relu,
)

# On torch Keras computes float64 sums in float32.
DTYPE = "float32" if BACKEND == "torch" else "float64"
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}[DTYPE]
SPLIT, CHANNELS = 3, 4
NAMES = ("predicted_mean", "predicted_variance")
SHAPES = {-1: (6, 2, 3, 4), 1: (6, 4, 2, 3)}


def close(actual, expected):
    actual = numpy(actual)
    assert actual.shape == expected.shape
    scale = max(np.abs(expected).max(), 1e-3)
    assert np.abs(actual - expected).max() <= TOLERANCE * scale


def test_one_channel_by_hand():
    """Mean 2 and variance 1, predicted 0 and 3, half and half: mean 1, variance
    3 / 2 + 1 / 2 + 4 / 4."""
    layer = BatchKalmanNormalization(epsilon=1.0, momentum=0.5, p=0.5)
    x = np.array([[1.0], [3.0]])
    prediction = np.array([[0.0]]), np.array([[3.0]])
    y, moments = layer(x, prediction, training=True, return_moments=True)
    assert [numpy(value).item() for value in moments] == [1, 3]
    assert numpy(y).ravel().tolist() == [0, 1]
    assert numpy(layer.moving_mean).item() == 0.5 * 0 + 0.5 * 1
    assert numpy(layer.moving_variance).item() == 0.5 * 1 + 0.5 * 3


def prediction_of(rng, scale=1.0):
    """Of each micro-batch; of the second one so much that it is not believed."""
    variance = scale * rng.uniform(0.5, 2, (SPLIT, CHANNELS))
    variance[1] *= 1e4
    return rng.normal(size=(SPLIT, CHANNELS)), variance


def case(rng, axis):
    """A built layer with random weights, its input, and the oracle's weights."""
    layer = BatchKalmanNormalization(
        axis=axis, momentum=0.75, split=SPLIT, p=0.9, dtype=DTYPE
    )
    x = images(rng, SHAPES[axis], DTYPE)
    layer.build(x.shape)
    for weight in layer.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    weights = {v.name: numpy(v) for v in layer.trainable_variables}
    weights |= dict(zip(NAMES, prediction_of(rng), strict=True))
    return layer, x, weights


def step(layer, x, prediction, cotangent, mode):
    """Outputs, moments and all gradients of `sum(outputs * cotangent)` in training."""
    inputs = [x, *prediction]
    run = {"tensorflow": tensorflow_step, "jax": jax_step, "torch": torch_step}
    return run[BACKEND](layer, [v.astype(DTYPE) for v in inputs], cotangent, mode)


def tensorflow_step(layer, inputs, cotangent, mode):
    import tensorflow as tf

    def run(x, *prediction):
        with tf.GradientTape() as tape:
            tape.watch([x, *prediction])
            y, moments = layer(x, prediction, training=True, return_moments=True)
            loss = tf.reduce_sum(y * cotangent)
        variables = [v.value for v in layer.trainable_variables]
        return y, moments, tape.gradient(loss, [x, *prediction, *variables])

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla")
    return run(*map(tf.constant, inputs))


def jax_step(layer, inputs, cotangent, mode):
    import jax

    def loss(trainable, inputs, state):
        x, *prediction = inputs
        (y, moments), state = layer.stateless_call(
            trainable, state, x, prediction, training=True, return_moments=True
        )
        return (y * cotangent).sum(), (y, moments, state)

    run = jax.grad(loss, argnums=(0, 1), has_aux=True)
    run = jax.jit(run) if mode == "jit" else run
    trainable = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]
    inputs = list(map(jax.numpy.asarray, inputs))
    (dw, dx), (y, moments, state) = run(trainable, inputs, state)
    for variable, value in zip(layer.non_trainable_variables, state, strict=True):
        variable.assign(value)
    return y, moments, [*dx, *dw]


def torch_step(layer, inputs, cotangent, mode):
    import torch

    inputs = [torch.tensor(value, requires_grad=True) for value in inputs]
    x, *prediction = inputs
    y, moments = layer(x, prediction, training=True, return_moments=True)
    loss = (y * torch.tensor(cotangent.astype(DTYPE))).sum()
    weights = [v.value for v in layer.trainable_variables]
    return y, moments, torch.autograd.grad(loss, [*inputs, *weights])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", SHAPES)
def test_training(rng, axis, mode):
    """Outputs, moments, moving statistics, gradients of inputs, predictions and
    weights; the second micro-batch does not believe its prediction."""
    layer, x, weights = case(rng, axis)
    before = [numpy(v) for v in layer.non_trainable_variables]
    cotangent = rng.normal(size=x.shape)
    options = {"split": SPLIT, "p": 0.9, "axis": axis}
    expected = kalman_normalization(x, weights, **options)
    dx, dw = reference.gradients(x, weights, cotangent, kalman_normalization, **options)
    assert not dw[NAMES[1]][1].any() and dw[NAMES[1]][0].all()

    prediction = [weights[name] for name in NAMES]
    y, moments, gradients = step(layer, x, prediction, cotangent, mode)
    close(y, expected.outputs)
    for value, other in zip(moments, expected[1:], strict=True):
        close(value, other)
    names = [*NAMES, *(v.name for v in layer.trainable_variables)]
    derivatives = [dx, *(dw[name] for name in names)]
    for value, other in zip(gradients, derivatives, strict=True):
        close(value, other)
    variables = layer.non_trainable_variables
    for variable, old, new in zip(variables, before, expected[1:], strict=True):
        close(variable, reference.moving_update(old, new[0], 0.75))


def test_without_a_prediction(rng):
    """Keras's batch normalization of each micro-batch on its own."""
    layer = BatchKalmanNormalization(split=SPLIT, p=0.9)
    x = images(rng, SHAPES[-1])
    y = numpy(layer(x, training=True))
    for part, outputs in zip(np.split(x, SPLIT), np.split(y, SPLIT), strict=True):
        expected = keras.layers.BatchNormalization()(part, training=True)
        np.testing.assert_allclose(outputs, numpy(expected), atol=2e-6)


@pytest.mark.parametrize("trainable, training", [(True, False), (False, True)])
def test_inference_and_frozen(rng, trainable, training):
    """With moving statistics, as batch normalization, whatever was predicted, and for
    any number of samples."""
    layer, x, _ = case(rng, -1)
    for variable in layer.non_trainable_variables:
        variable.assign(rng.uniform(0.5, 2, CHANNELS))
    values = layer.get_weights()
    gamma, beta, *moving = values
    layer.trainable = trainable
    y, pair = layer(x[:4], prediction_of(rng), training=training, return_moments=True)
    close(y, gamma * (x[:4] - moving[0]) / np.sqrt(moving[1] + 1e-3) + beta)
    for value, expected in zip(pair, moving, strict=True):
        close(value, np.tile(expected, (SPLIT, 1)))
    for before, after in zip(values, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


def test_constant_channels(rng):
    """No variance of one's own believes nothing, and gradients stay finite."""
    layer = BatchKalmanNormalization(split=SPLIT, p=0.9, dtype=DTYPE)
    x, zeros = np.ones(SHAPES[-1]), np.zeros((SPLIT, CHANNELS))
    layer.build(x.shape)
    cotangent = rng.normal(size=x.shape)
    for prediction in ([zeros, zeros], [zeros, zeros + 1]):
        y, (mean, variance), gradients = step(
            layer, x, prediction, cotangent, MODES[-1]
        )
        assert not numpy(y).any() and not numpy(variance).any()
        assert (numpy(mean) == 1).all()
        assert all(np.isfinite(numpy(value)).all() for value in gradients)


@pytest.mark.parametrize("axis", SHAPES)
def test_an_image_is_drawn(rng, axis):
    """`relu(z sqrt(var) + mean)` of Keras's noise, an image for each micro-batch."""
    mean, variance = rng.normal(size=(2, SPLIT, CHANNELS)).astype("float32")
    variance = variance**2
    variance[0, 0] = 0
    y = images(rng, SHAPES[axis])
    layer = KalmanSample(axis, seed=3)
    noise = keras.random.normal(
        (SPLIT, *y.shape[1:]), seed=keras.random.SeedGenerator(3)
    )
    image = numpy(layer(y, (mean, variance), training=True))
    broad = (SPLIT, 1, 1, CHANNELS) if axis == -1 else (SPLIT, CHANNELS, 1, 1)
    mean, spread = (value.reshape(broad) for value in (mean, np.sqrt(variance)))
    expected = relu(numpy(noise) * spread + mean)
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_moments_of_what_a_convolution_makes(rng):
    """Of three images, each on its own."""
    image = images(rng, (3, 7, 6, 2), DTYPE)
    layer = keras.layers.Conv2D(5, 3, padding="same", use_bias=False, dtype=DTYPE)
    pair = KalmanMoments(dtype=DTYPE)(layer(image))
    expected = image_moments(convolution(image, numpy(layer.kernel)))
    for value, other in zip(pair, expected, strict=True):
        close(value, other)


def test_nothing_is_drawn_in_inference(rng):
    layer = KalmanSample()
    state = numpy(layer.seed_generator.state)
    y, moments = images(rng, SHAPES[-1]), prediction_of(rng)
    assert not numpy(layer(y, moments)).any()
    np.testing.assert_array_equal(numpy(layer.seed_generator.state), state)
    one, two = (numpy(layer(y, moments, training=True)) for _ in range(2))
    assert (one != two).any()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(rng, policy):
    """Statistics in float32; half precision for what is as large as the input."""
    x = images(rng, SHAPES[-1])
    x = keras.ops.cast(x + 100, policy[6:])
    layer = BatchKalmanNormalization(split=SPLIT, dtype=policy)
    y, moments = layer(x, training=True, return_moments=True)
    image = KalmanSample(dtype=policy)(y, moments, training=True)
    pair = KalmanMoments(dtype=policy)(image)
    dtypes = [keras.backend.standardize_dtype(t.dtype) for t in (y, image)]
    assert dtypes == [policy[6:]] * 2
    for value in (*moments, *pair):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
    expected = np.split(numpy(keras.ops.cast(x, "float32")).astype("float64"), SPLIT)
    expected = np.array([part.mean((0, 1, 2)) for part in expected])
    np.testing.assert_allclose(numpy(moments[0]), expected, rtol=1e-6)


@pytest.mark.parametrize("open_batch", [False, True])
def test_a_file(rng, tmp_path, open_batch):
    """Two normalizations and the prediction between them."""
    x = keras.Input((8, 8, 3), batch_size=None if open_batch else 4)
    norms = [
        BatchKalmanNormalization(split=2, p=p, epsilon=1e-5, center=False)
        for p in (0.1, 0.9)
    ]
    y, moments = norms[0](x, return_moments=True)
    convolution = keras.layers.Conv2D(5, 3, 2, use_bias=False)
    image = convolution(KalmanSample(seed=5)(y, moments))
    y = convolution(keras.ops.relu(y))
    model = keras.Model(x, norms[1](y, prediction=KalmanMoments()(image)))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = images(rng, (4, 8, 8, 3))
    for training in (True, False):
        expected = numpy(model(x, training=training))
        np.testing.assert_array_equal(numpy(again(x, training=training)), expected)
    configs = [layer.get_config() for layer in again.layers]
    assert configs == [layer.get_config() for layer in model.layers]
    assert len(again.weights) == len(model.weights) == 3 + 3 + 1


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"split": 0}, ValueError, "`split` must be an integer of at least 1."),
        ({"split": 1.5}, TypeError, "`split` must be an integer of at least 1."),
        ({"p": 1.1}, ValueError, "`p` must be in [0, 1]. Received: p=1.1"),
        ({"p": "a"}, TypeError, "`p` must be a number, in [0, 1]. Received: p='a'"),
        ({"renorm": True}, ValueError, "`renorm` must be False. Received: renorm=True"),
    ],
)
def test_wrong_arguments(kwargs, error, message):
    with pytest.raises(error, match=re.escape(f"Argument {message}")):
        BatchKalmanNormalization(**kwargs)


def test_batches_that_do_not_split(rng):
    layer, x = BatchKalmanNormalization(split=4), images(rng, (6, 2, 2, 3))
    message = "`split` must be a divisor of the batch, 6 samples. Received: split=4"
    with pytest.raises(ValueError, match=message):
        layer(x, training=True)
    assert layer(x).shape == x.shape


@pytest.mark.tensorflow
def test_batches_of_unknown_size_that_do_not_split(rng):
    import tensorflow as tf

    layer = BatchKalmanNormalization(split=4)
    layer.build((None, 2, 2, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 2, 3))])
    def run(x):
        return layer(x, training=True)

    assert run(images(rng, (8, 2, 2, 3))).shape == (8, 2, 2, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="split|reshape"):
        run(images(rng, (6, 2, 2, 3)))


@pytest.mark.tensorflow
def test_replicas_move_together(rng, strategy):
    """By the first micro-batch of each, merged."""
    import tensorflow as tf

    replicas = strategy.num_replicas_in_sync
    x = images(rng, (replicas, 4, 3, 2, CHANNELS))
    with strategy.scope():
        layer = BatchKalmanNormalization(split=2, momentum=0.0)
        layer.build(x.shape[1:])

    @tf.function
    def run():
        parts = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(x[context.replica_id_in_sync_group])
        )
        strategy.run(lambda part: layer(part, training=True), (parts,))

    run()
    first = x[:, :2].astype("float64")
    mean, variance = first.mean((0, 1, 2, 3)), first.var((0, 1, 2, 3))
    for variable, value in zip(layer.weights[2:], (mean, variance), strict=True):
        for local in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(numpy(local), value, rtol=1e-5, atol=1e-6)
