"""The interface that every builder shares with `keras.applications`."""

import os

import keras
from keras import layers

from .norms import normalization


class Builder:
    """Inputs, normalized convolutions, head and weights of one network.

    Args:
        input_tensor: `None` or the tensor to build on.
        input_shape: Shape of one image; sizes may be `None`.
        norm, norm_kwargs: See `keras_en.models.norms.normalization`.

    Attributes:
        axis: The channel axis of Keras's image data format.
        images: The input tensor.
    """

    def __init__(self, input_tensor, input_shape, norm, norm_kwargs):
        last = keras.config.image_data_format() == "channels_last"
        self.axis = -1 if last else 1
        self.norm, self.norm_kwargs = norm, norm_kwargs or {}
        if input_tensor is None:
            input_tensor = keras.Input(input_shape, name="images")
        elif not isinstance(input_tensor, keras.KerasTensor):
            raise ValueError(
                "Argument `input_tensor` must be None or a Keras tensor. "
                f"Received: input_tensor of type {type(input_tensor).__name__}"
            )
        self.images = input_tensor

    def conv(self, x, filters, size, stride, name, pad=0, **norm_kwargs):
        """Zero padding of `pad` on each side, convolution, normalization."""
        if pad:
            x = layers.ZeroPadding2D(pad, name=f"{name}_pad")(x)
        x = layers.Conv2D(
            filters,
            size,
            stride,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        kwargs = {**self.norm_kwargs, **norm_kwargs}
        layer = normalization(
            self.norm, filters, axis=self.axis, name=f"{name}_norm", **kwargs
        )
        return layer(x)

    def model(
        self, x, include_top, weights, pooling, classes, classifier_activation, name
    ):
        """The `keras.Model` that ends in a classifier, a pooling or `x` itself."""
        if pooling not in (None, "avg", "max"):
            raise ValueError(
                "Argument `pooling` must be None, 'avg' or 'max'. "
                f"Received: pooling={pooling!r}"
            )
        if weights is not None and not os.path.exists(weights):
            raise ValueError(
                "Argument `weights` must be None or the path of a file. "
                f"Received: weights={weights!r}"
            )
        if include_top or pooling == "avg":
            x = layers.GlobalAveragePooling2D(name="pool")(x)
        elif pooling == "max":
            x = layers.GlobalMaxPooling2D(name="pool")(x)
        if include_top:
            # Half precision is too coarse for probabilities.
            x = layers.Dense(
                classes,
                activation=classifier_activation,
                name="predictions",
                dtype="float32",
            )(x)
        inputs = keras.utils.get_source_inputs(self.images)
        # A list of one input would have to be called with a list.
        model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, x, name=name)
        if weights is not None:
            model.load_weights(weights)
        return model
