"""Networks of other fields, for `strangers.py`: at the smallest size that shows their
structure."""

import keras
from keras import layers


def norm_relu(x):
    return layers.ReLU()(layers.BatchNormalization()(x))


def tcn():
    """Dilated causal blocks with residuals (Bai et al. 2018)."""
    x = inputs = keras.Input((24, 4))
    for dilation in (1, 2, 4):
        residual = layers.Conv1D(8, 1)(x)
        for _ in range(2):
            convolution = layers.Conv1D(8, 3, dilation_rate=dilation, padding="causal")
            x = layers.SpatialDropout1D(0.1)(norm_relu(convolution(x)))
        x = layers.ReLU()(layers.Add()([x, residual]))
    return keras.Model(inputs, layers.Dense(3)(x[:, -1]), name="tcn")


def u_net(rank, size):
    """Two scales, skips and transposed convolutions (Ronneberger et al. 2015)."""
    convolution = getattr(layers, f"Conv{rank}D")
    transposed = getattr(layers, f"Conv{rank}DTranspose")
    pooling = getattr(layers, f"MaxPooling{rank}D")

    def double(x, filters):
        for _ in range(2):
            x = norm_relu(convolution(filters, 3, padding="same")(x))
        return x

    inputs = keras.Input((*[size] * rank, 1))
    skips, x = [], inputs
    for filters in (4, 8):
        skips.append(double(x, filters))
        x = pooling(2)(skips[-1])
    x = double(x, 16)
    for filters in (8, 4):
        x = transposed(filters, 2, strides=2)(x)
        x = double(layers.Concatenate()([x, skips.pop()]), filters)
    return keras.Model(inputs, convolution(2, 1)(x), name=f"u_net_{rank}d")


def point_net():
    """Points, with learned transforms of input and features (Qi et al. 2017)."""

    def dense(x, units):
        return norm_relu(layers.Dense(units)(x))

    def t_net(x, size):
        y = layers.GlobalMaxPooling1D()(dense(dense(x, 16), 32))
        y = dense(y, 16)
        y = layers.Dense(size**2, kernel_initializer="zeros", bias_initializer="ones")(
            y
        )
        return layers.Dot(axes=(2, 1))([x, layers.Reshape((size, size))(y)])

    inputs = keras.Input((32, 3))
    x = dense(t_net(inputs, 3), 8)
    x = layers.GlobalMaxPooling1D()(dense(t_net(x, 8), 32))
    return keras.Model(inputs, layers.Dense(5)(dense(x, 16)), name="point_net")


def generator():
    """Of DCGAN (Radford et al. 2016)."""
    parts = [keras.Input((8,)), layers.Dense(4 * 4 * 16), layers.Reshape((4, 4, 16))]
    for filters in (8, 4):
        parts += [layers.BatchNormalization(), layers.ReLU()]
        parts.append(layers.Conv2DTranspose(filters, 5, strides=2, padding="same"))
    parts += [layers.BatchNormalization(), layers.ReLU()]
    parts.append(layers.Conv2D(3, 3, padding="same", activation="tanh"))
    return keras.Sequential(parts, name="generator")


def discriminator():
    parts = [keras.Input((16, 16, 3))]
    for filters in (4, 8):
        parts.append(layers.Conv2D(filters, 5, strides=2, padding="same"))
        parts += [layers.BatchNormalization(), layers.LeakyReLU(0.2)]
    return keras.Sequential([*parts, layers.Flatten(), layers.Dense(1)], name="critic")


def deep_speech():
    """Convolutions, then bidirectional GRUs with a normalization each."""
    inputs = keras.Input((24, 16, 1))
    x = norm_relu(layers.Conv2D(4, 5, strides=(2, 2), padding="same")(inputs))
    x = layers.Reshape((12, 32))(x)
    for _ in range(2):
        x = layers.Bidirectional(layers.GRU(6, return_sequences=True))(x)
        x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(7)(x), name="deep_speech")


def conv_lstm():
    inputs = keras.Input((4, 8, 8, 2))
    x = layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Bidirectional(layers.ConvLSTM2D(3, 3, padding="same"))(x)
    x = layers.Conv2D(1, 3, padding="same")(layers.BatchNormalization()(x))
    return keras.Model(inputs, x, name="conv_lstm")


NETWORKS = {
    "TCN": tcn,
    "U-Net 2-D": lambda: u_net(2, 16),
    "U-Net 3-D": lambda: u_net(3, 8),
    "PointNet": point_net,
    "DCGAN generator": generator,
    "DCGAN discriminator": discriminator,
    "Deep Speech 2": deep_speech,
    "ConvLSTM": conv_lstm,
}
