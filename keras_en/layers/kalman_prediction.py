"""What predicts the moments that `BatchKalmanNormalization` takes: an image drawn from
those of one normalization, on its way through the next convolution, and its moments."""

from typing import Any

import keras
from keras import ops

from keras_en import arguments
from keras_en.layers.normalizer_pool import drawing, seed_beside
from keras_en.ops import kalman, moments


@keras.saving.register_keras_serializable(package="keras_en")
class KalmanSample(keras.layers.Layer):
    """Draws an image for each micro-batch from the moments of a normalization.

    `image = relu(z * sqrt(var) + mean)`, `z ~ N(0, 1)`, independent everywhere

    It goes, in one more call, through the convolution that follows; the moments of what
    comes out, `KalmanMoments`, are the prediction for the normalization behind. Means
    of branches that are added add, and so do variances.

    Args:
        axis: Integer, the channel axis.
        seed: Optional integer, of the random numbers.
        **kwargs: Base layer keyword arguments.

    Call arguments:
        inputs: Tensor `(N, spatial..., C)`, what the convolution reads, for its shape.
        moments: The pair `(mean, var)`, `(split, C)`.
        training: Otherwise nothing is drawn: the images are 0, and nobody reads them.

    Output shape:
        `(split, spatial..., C)`, in the layer's compute dtype.

    Example:

    >>> import keras
    >>> from keras_en import BatchKalmanNormalization
    >>> from keras_en.layers import KalmanMoments, KalmanSample
    >>> x = keras.Input((8, 8, 16))
    >>> y, moments = BatchKalmanNormalization(split=2)(x, return_moments=True)
    >>> image = KalmanSample()(y, moments)
    >>> convolution = keras.layers.Conv2D(32, 3, use_bias=False)
    >>> x = convolution(keras.ops.relu(y))
    >>> y = BatchKalmanNormalization(split=2)(x, KalmanMoments()(convolution(image)))
    >>> image.shape, y.shape
    ((2, 8, 8, 16), (None, 6, 6, 32))
    """

    def __init__(self, axis: int = -1, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.axis = arguments.integer("axis", axis, not_zero="the batch axis")
        self.seed = seed
        with drawing(seed_beside(self.name)):
            self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, moments: Any, training: bool | None = None) -> Any:
        mean, variance = moments
        shape = (mean.shape[0], *ops.shape(inputs)[1:])
        if not training:
            return ops.zeros(shape, dtype=self.compute_dtype)
        dtype = keras.backend.standardize_dtype(mean.dtype)
        noise = keras.random.normal(shape, dtype=dtype, seed=self.seed_generator)
        axis = self.axis % len(inputs.shape)
        image = kalman.rectified_normal(noise, mean, variance, axis)
        return ops.cast(image, self.compute_dtype)

    def compute_output_spec(
        self, inputs: Any, moments: Any, training: bool | None = None
    ) -> Any:
        shape = (moments[0].shape[0], *inputs.shape[1:])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_en")
class KalmanMoments(keras.layers.Layer):
    """Mean and biased variance of each image over its positions.

    Args:
        axis: Integer, the channel axis.
        **kwargs: Base layer keyword arguments.

    Call arguments:
        inputs: Tensor `(split, spatial..., C)`, what a convolution makes of the images
            of `KalmanSample`.

    Output shape:
        The pair `(pm, pv)`, `(split, C)` each, in float32 or wider.

    Example:

    >>> import numpy as np
    >>> images = np.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    >>> [float(keras.ops.squeeze(value)) for value in KalmanMoments()(images)]
    [2.0, 1.0]
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.axis = arguments.integer("axis", axis, not_zero="the batch axis")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = ops.cast(inputs, kalman.statistics_dtype(inputs))
        axis = self.axis % len(inputs.shape)
        return moments.per_sample(x, axis, training=bool(training))[:2]

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        shape = (inputs.shape[0], inputs.shape[self.axis])
        dtype = kalman.statistics_dtype(inputs)
        return tuple(keras.KerasTensor(shape, dtype=dtype) for _ in range(2))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}
