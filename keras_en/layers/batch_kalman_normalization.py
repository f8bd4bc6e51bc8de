"""`BatchKalmanNormalization`: state, call and configuration."""

from typing import Any

import keras
from keras import ops

from keras_en import arguments
from keras_en.arguments import check
from keras_en.ops import kalman, moments, replicas, tracing
from keras_en.ops.spatial import scale_and_shift


@keras.saving.register_keras_serializable(package="keras_en")
class BatchKalmanNormalization(keras.layers.BatchNormalization):
    """Batch normalization that mixes predicted moments into those of micro-batches.

    `y = gamma * (x - mean) / sqrt(var + epsilon) + beta`

    `mean = p * pm + (1 - p) * m`,
    `var = p * pv + (1 - p) * v + p * (1 - p) * (m - pm)^2`

    - `x`: `(N, spatial..., C)`, the input; `y` has its shape.
    - `m`, `v`: `(split, C)`, mean and biased variance of each micro-batch of
      `N / split` consecutive samples.
    - `pm`, `pv`: `(split, C)`, their prediction from the normalization before; see
      `keras_en.layers.KalmanSample`. `p`: its share.
    - `gamma`, `beta`: `(C,)`.

    This is what the code does that its authors have released. Some details that matter:

    - A micro-batch whose own variances are far less than predicted, `mean_c(pv / v)` of
      100 or more, keeps `m` and `v`. Without a prediction all do: the layer is then
      batch normalization of each micro-batch.
    - Gradients reach the prediction, and through it the layers before.
    - Moving statistics follow the fused ones of the first micro-batch. Inference, and a
      frozen layer, normalizes with them, as `keras.layers.BatchNormalization`, and
      predicts nothing. Each replica of a strategy has `split` micro-batches of its own;
      the moving statistics are those of the first ones of all replicas, merged.
    - Table 1 of the paper of Exemplar Normalization counts another form: a trainable
      matrix `A`, `C x C`, takes the mean and the full covariance from layer to layer,
      `O(N C^2 H W)`. It is not in that code; here the next convolution takes the place
      of `A`, and `2 C` weights a layer can be trained.
    - With the authors `p` is 0.9 for micro-batches of 2 samples, and 0.05 for one
      micro-batch, the default.

    `keras_en.models.CifarPreactivationResNet(depth, norm="bkn")` is a network with all
    predictions.

    Args:
        axis, momentum, epsilon, **kwargs: As in `keras.layers.BatchNormalization`; with
            neither `synchronized` nor `renorm`.
        split: Number of micro-batches; has to divide `N` in training.
        p: Share of the prediction, in [0, 1].

    Call arguments:
        inputs: Tensor of rank 2 to 5.
        prediction: `None`, or the pair `(pm, pv)`.
        training: As in `keras.layers.BatchNormalization`.
        return_moments: Whether the pair `(mean, var)` is returned, too.

    Output shape:
        That of `inputs`, in the layer's compute dtype; with `return_moments=True`
        `(y, (mean, var))`, the moments `(split, C)` in float32 or wider.

    Raises:
        ValueError, TypeError: An argument is not among those allowed, or `split` does
            not divide the batch.

    Weights: those of `keras.layers.BatchNormalization`.

    Example: mean 2 and variance 1, predicted 0 and 3.

    >>> import numpy as np
    >>> from keras_en import BatchKalmanNormalization
    >>> layer = BatchKalmanNormalization(epsilon=1.0, p=0.5)
    >>> x = np.array([[1.0], [3.0]])
    >>> prediction = np.array([[0.0]]), np.array([[3.0]])
    >>> y, (mean, variance) = layer(x, prediction, training=True, return_moments=True)
    >>> [keras.ops.convert_to_numpy(t).ravel().tolist() for t in (mean, variance, y)]
    [[1.0], [3.0], [0.0, 1.0]]

    Reference:

    - [Wang et al., 2018](https://arxiv.org/abs/1802.03133), Batch Kalman
      Normalization: Towards Training Deep Neural Networks with Micro-Batches.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        *,
        split: int = 1,
        p: float = 0.05,
        **kwargs: Any,
    ) -> None:
        # Half-precision inputs are cast once, to the dtype of the statistics.
        super().__init__(axis, momentum, epsilon, autocast=False, **kwargs)
        for name in ("synchronized", "renorm"):
            check(not getattr(self, name), name, "False", getattr(self, name))
        self.split = arguments.integer("split", split, minimum=1)
        self.p = arguments.number("p", p, "in [0, 1]")
        check(0 <= self.p <= 1, "p", "in [0, 1]", p)
        self.supports_masking = False

    def build(self, input_shape: Any) -> None:
        rank = len(input_shape)
        check(2 <= rank <= 5, "inputs", "of rank 2 to 5", tuple(input_shape), "shape")
        replicas.check_strategy()
        super().build(input_shape)

    def call(
        self,
        inputs: Any,
        prediction: Any = None,
        training: bool | None = None,
        return_moments: bool = False,
    ) -> Any:
        self._check_batch(inputs, training)
        dtype = kalman.statistics_dtype(inputs)
        axis = self.axis % len(inputs.shape)
        x = ops.cast(inputs, dtype)
        learns = bool(training) and self.trainable
        if learns:
            statistics = kalman.micro_batch_moments(x, axis, self.split)
            if prediction is not None:
                prediction = [ops.cast(value, dtype) for value in prediction]
                statistics = kalman.fused(statistics, prediction, self.p)
            self._move(statistics)
        else:
            moving = (self.moving_mean, self.moving_variance)
            statistics = [ops.expand_dims(ops.cast(v, dtype), 0) for v in moving]
        gamma, beta = (
            None if weight is None else ops.cast(weight, dtype)
            for weight in (self.gamma, self.beta)
        )
        a, b = kalman.folded(statistics, gamma, beta, self.epsilon)
        if learns:
            samples = ops.shape(x)[0]
            a, b = (kalman.of_samples(value, samples) for value in (a, b))
        y = ops.cast(scale_and_shift(x, a, b, axis, learns), self.compute_dtype)
        if not return_moments:
            return y
        shape = (self.split, x.shape[axis])
        return y, tuple(ops.broadcast_to(value, shape) for value in statistics)

    def _move(self, statistics):
        """The moving statistics, to those of the first micro-batch of each replica."""
        first = moments.Moments(*(value[:1] for value in statistics), 1)
        # In a loop replicas cannot meet.
        if not tracing.is_control_flow():
            first = replicas.merge(first)
        moving = (self.moving_mean, self.moving_variance)
        old = tuple(ops.cast(value, first.mean.dtype) for value in moving)
        new = moments.moved(old, first, self.momentum)
        for variable, value in zip(moving, new, strict=True):
            variable.assign(value)

    def _check_batch(self, inputs, training):
        samples = inputs.shape[0]
        if training and self.trainable and isinstance(samples, int):
            valid = samples % self.split == 0
            allowed = f"a divisor of the batch, {samples} samples"
            check(valid, "split", allowed, self.split)

    def compute_output_spec(
        self,
        inputs: Any,
        prediction: Any = None,
        training: bool | None = None,
        return_moments: bool = False,
    ) -> Any:
        self._check_batch(inputs, training)
        y = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_moments:
            return y
        shape = (self.split, inputs.shape[self.axis])
        dtype = kalman.statistics_dtype(inputs)
        return y, tuple(keras.KerasTensor(shape, dtype=dtype) for _ in range(2))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "split": self.split, "p": self.p}
