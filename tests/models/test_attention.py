import keras
import numpy as np
import pytest

from keras_en.models.attention import RelativeAttention2D
from tests.backends import images, numpy, randomize

HEADS, KEYS, VALUES = 2, 6, 4
SHAPE = (3, 4, 5, 2 * KEYS + VALUES)  # images, height, width, channels


def test_queries_of_zero():
    """They attend to all positions alike: outputs are the mean of the values."""
    layer = RelativeAttention2D(heads=1, keys=1)
    inputs = np.array([[[[0, 3, 5], [0, 4, 9]]]], "float32")  # query, key, value
    np.testing.assert_allclose(numpy(layer(inputs)), [[[[7], [7]]]])


def oracle(x, rows, columns, heads, keys):
    """Bello et al. 2019, Eq. 2 to 5, a query and a head at a time."""
    n, height, width, channels = x.shape
    values = channels - 2 * keys
    d, dv = keys // heads, values // heads
    outputs = np.zeros((n, height, width, values))
    for image in range(n):
        for head in range(heads):
            queries = x[image, ..., head * d : (head + 1) * d]
            at = keys + head * d
            facing = x[image, ..., at : at + d]
            at = 2 * keys + head * dv
            carried = x[image, ..., at : at + dv]
            for iy, ix in np.ndindex(height, width):
                q = queries[iy, ix]
                logits = np.empty((height, width))
                for jy, jx in np.ndindex(height, width):
                    # The first row of `columns` is for the distance 1 - width.
                    r_w = columns[jx - ix + width - 1]
                    r_h = rows[jy - iy + height - 1]
                    logits[jy, jx] = q @ (facing[jy, jx] + r_w + r_h) / np.sqrt(d)
                shares = np.exp(logits - logits.max())
                shares /= shares.sum()
                out = (shares[..., None] * carried).sum((0, 1))
                outputs[image, iy, ix, head * dv : (head + 1) * dv] = out
    return outputs


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_against_the_formula(rng, data_format, dtype, tolerance):
    x = images(rng, SHAPE, dtype)
    x_in = x if data_format == "channels_last" else np.moveaxis(x, -1, 1)
    layer = RelativeAttention2D(HEADS, KEYS, data_format=data_format, dtype=dtype)
    layer.build(x_in.shape)
    weights = randomize(layer, rng)
    y = numpy(layer(x_in))
    y = y if data_format == "channels_last" else np.moveaxis(y, 1, -1)
    expected = oracle(x.astype("float64"), **weights, heads=HEADS, keys=KEYS)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


def test_weights():
    layer = RelativeAttention2D(HEADS, KEYS)
    layer.build(SHAPE)
    shapes = {v.name: v.shape for v in layer.trainable_variables}
    assert shapes == {"rows": (7, KEYS // HEADS), "columns": (9, KEYS // HEADS)}


def test_the_data_format_is_that_of_keras(data_format):
    data_format("channels_first")
    layer = RelativeAttention2D(HEADS, KEYS)
    y = layer(keras.KerasTensor((None, SHAPE[-1], 4, 5)))
    assert y.shape == (None, VALUES, 4, 5)


def test_a_configuration_keeps_its_data_format(rng, data_format):
    data_format("channels_first")
    layer = RelativeAttention2D(HEADS, KEYS, name="a")
    x = np.moveaxis(images(rng, SHAPE), -1, 1)
    y = numpy(layer(x))
    config = keras.saving.serialize_keras_object(layer)
    data_format("channels_last")
    again = keras.saving.deserialize_keras_object(config)
    assert again.name == "a" and again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(again(x)), y)


@pytest.mark.parametrize("shape", [(None, None, 5, 16), (None, 4, None, 16)])
def test_unknown_sizes(shape):
    message = (
        "Argument `inputs` must have a known height and width. Received: inputs.shape="
    )
    with pytest.raises(ValueError, match=message):
        RelativeAttention2D(HEADS, KEYS)(keras.KerasTensor(shape))


@pytest.mark.parametrize("heads, channels", [(4, 16), (3, 16), (2, 15), (2, 12)])
def test_heads_that_do_not_divide(heads, channels):
    message = (
        "Argument `heads` must divide the channels of queries, 6, and of values, "
        rf"{channels - 12}\. Received: heads={heads}$"
    )
    with pytest.raises(ValueError, match=message):
        RelativeAttention2D(heads, KEYS).build((None, 4, 5, channels))
