"""What every network is built with: images, normalized convolutions and the top."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_en.arguments import check, refused

from .norms import norm_name, normalization
from .weights import load_weights


class Builder:
    """Inputs, normalized convolutions, top and weights of one network.

    Attributes:
        axis: The channel axis of Keras's image data format.
        images: The input tensor.
    """

    def __init__(self, options: Any, size: int, minimum: int, fixed: bool) -> None:
        self.options = options
        self.axis = -1 if _channels_last() else 1
        self.norm_kwargs = dict(options.norm_kwargs or {})
        self.images = _images(options, size, minimum, fixed)

    def default_reduction(self, reduction: int) -> None:
        """Sets `r` of Exemplar Normalization (Sec. 4.1 and 4.2) where none is given."""
        if self.options.norm == "en":
            self.norm_kwargs.setdefault("reduction", reduction)

    def convolution(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """`x` through the `convolution_layers` of these arguments."""
        return chained(self.convolution_layers(*args, **kwargs), x)

    def convolution_layers(self, filters, size, stride=1, *, name, dilation=1):
        """The layers, one or two, of a convolution without bias that keeps the size but
        for its stride.

        Args:
            filters: Output channels; `None` for a depthwise convolution.
            name: Of the layers `<name>_pad` and `<name>_conv`.
        """
        padding, margin, parts = "same", dilation * (size - 1) // 2, []
        if stride > 1 and margin:
            # As in the papers: Keras's "same" pads one side only at even sizes.
            parts.append(layers.ZeroPadding2D(margin, name=f"{name}_pad"))
            padding = "valid"
        common = {
            "strides": stride,
            "padding": padding,
            "dilation_rate": dilation,
            "use_bias": False,
            "name": f"{name}_conv",
        }
        if filters is None:
            common["depthwise_initializer"] = "he_normal"
            return [*parts, layers.DepthwiseConv2D(size, **common)]
        common["kernel_initializer"] = "he_normal"
        return [*parts, layers.Conv2D(filters, size, **common)]

    def conv(
        self, x, filters, size, stride=1, *, name, dilation=1, relu=False, **norm_kwargs
    ):
        """`convolution`, then normalization, then, if `relu`, a ReLU.

        Args:
            name: Of the layers `<name>_conv`, `<name>_norm` and `<name>_relu`.
            **norm_kwargs: Arguments of this normalization.
        """
        x = self.convolution(x, filters, size, stride, name=name, dilation=dilation)
        x = self.norm(x, f"{name}_norm", **norm_kwargs)
        return layers.ReLU(name=f"{name}_relu")(x) if relu else x

    def norm(self, x: Any, name: str, **kwargs: Any) -> Any:
        """The network's normalization."""
        kwargs = {**self.norm_kwargs, **kwargs}
        channels = x.shape[self.axis]
        try:
            return normalization(
                self.options.norm, channels, axis=self.axis, name=name, **kwargs
            )(x)
        except (ValueError, TypeError) as error:
            raise type(error)(f"Layer `{name}`: {error}") from error

    def max_pooling(self, x: Any, name: str) -> Any:
        """3x3, stride 2, after a ReLU: zeros pad as well as minus infinity does."""
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        return layers.MaxPooling2D(3, 2, name=name)(x)

    def top(self, x: Any) -> Any:
        """The classifier, a pooling or `x` itself."""
        options = self.options
        if options.include_top or options.pooling == "avg":
            x = layers.GlobalAveragePooling2D(name="pool")(x)
        elif options.pooling == "max":
            x = layers.GlobalMaxPooling2D(name="pool")(x)
        if not options.include_top:
            return x
        activation, dtype = options.classifier_activation, at_least_float32()
        return layers.Dense(
            options.classes, activation, name="predictions", dtype=dtype
        )(x)

    def model(self, outputs: Any, name: str) -> keras.Model:
        """The model from the images to `outputs`, with the weights of the file."""
        inputs = keras.utils.get_source_inputs(self.images)
        # A list of one input would have to be called with a list.
        inputs = inputs[0] if len(inputs) == 1 else inputs
        name = self.options.name or f"{name}_{norm_name(self.options.norm)}"
        model = keras.Model(inputs, outputs, name=name)
        if self.options.weights is not None:
            load_weights(model, self.options.weights)
        return model


def chained(parts: Sequence[keras.layers.Layer], x: Any) -> Any:
    """`x` through the layers, one after the other."""
    return functools.reduce(lambda x, layer: layer(x), parts, x)


def at_least_float32() -> str:
    """The dtype of probabilities, for which float16 and bfloat16 are too coarse."""
    policy = keras.config.dtype_policy().variable_dtype
    return policy if policy == "float64" else "float32"


def _channels_last():
    return keras.config.image_data_format() == "channels_last"


def _images(options, size, minimum, fixed):
    """The input tensor: that of the options, or a new one of the shape that they or
    the network have."""
    tensor, shape = options.input_tensor, options.input_shape
    if tensor is None:
        if shape is None:
            shape = (size, size, 3) if _channels_last() else (3, size, size)
        _check_shape("input_shape", shape, minimum, fixed)
        return keras.Input(shape, name="images")
    if not isinstance(tensor, keras.KerasTensor):
        received = f"input_tensor of type {type(tensor).__name__}"
        raise refused("input_tensor", "None or a Keras tensor", received)
    _check_shape("input_tensor", tuple(tensor.shape[1:]), minimum, fixed)
    return tensor


def _check_shape(argument, shape, minimum, fixed):
    valid = isinstance(shape, tuple | list) and len(shape) == 3
    valid = valid and all(isinstance(n, int | None) for n in shape)
    order, axis = "(channels, height, width)", 0
    if _channels_last():
        order, axis = "(height, width, channels)", 2
    if valid:
        sizes = [*shape]
        valid = sizes.pop(axis) is not None and not (fixed and None in sizes)
        valid = valid and all(n is None or n >= minimum for n in sizes)
    allowed = f"of shape {order}, height and width at least {minimum}"
    check(valid, argument, allowed if fixed else f"{allowed} or None", shape)
