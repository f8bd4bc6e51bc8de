"""The interface that every network shares with `keras.applications`."""

import functools
import inspect
import os
import re
import warnings
import zipfile

import keras
from keras import layers

from keras_en.arguments import integer
from keras_en.text import one_line

from .norms import norm_name, normalization

_SHARED = """
    include_top: Whether to end in the classifier.
    weights: `None` (random initialization) or the path of a weights file,
        `.weights.h5` or `.keras`.
    input_tensor: Optional Keras tensor to use as the images.
    input_shape: Shape of an image; `None`: ({size}, {size}, 3). Height and width must
        be at least {minimum}{none}. With Keras's image data format "channels_first"
        channels come first.
    pooling: Without the top: `None` for the last feature maps, "avg" or "max".
    classes: Number of classes.
    classifier_activation: Activation of the classifier; `None` for logits.
    name: Name of the model; `{name}_<norm>` if `None`.
    norm: The normalization, see `keras_en.models.norms.normalization`.
    norm_kwargs: Optional dictionary of arguments of every normalization.

Returns:
    A `keras.Model`.

Raises:
    ValueError, TypeError: An argument is not among those allowed; the input is too
        small or of another rank; the weights are of another architecture.
"""


def application(size, classes=1000, minimum=32, fixed=False, name=None):
    """Makes a builder of networks out of the function that knows the features.

    Args:
        size: Height and width of an image by default.
        classes: Number of classes by default.
        minimum: Least height and width.
        fixed: Whether height and width must be known.
        name: Of models; that of the function in lower case if `None`. May hold
            arguments of the function: "resnet{depth}".

    Returns:
        Decorator of a function of a `Builder`, and of arguments of its own, to the
        last feature maps, or to outputs, where it applies the top itself
        (`build.finished`). What it becomes has those arguments and the shared ones,
        in its docstring, too, of which "Args:", if any, have to come last.
    """

    def decorate(features):
        own = inspect.signature(features).parameters
        own = list(own.values())[1:]
        base = name or features.__name__.lower()

        def shared(
            include_top=True,
            weights=None,
            input_tensor=None,
            input_shape=None,
            pooling=None,
            classes=classes,
            classifier_activation="softmax",
            name=None,
            norm="en",
            norm_kwargs=None,
        ):
            pass

        signature = inspect.signature(shared)
        leading = [p for p in own if p.default is p.empty]
        keywords = [p for p in own if p.default is not p.empty]
        signature = signature.replace(
            parameters=[*leading, *signature.parameters.values(), *keywords]
        )

        @functools.wraps(features)
        def builder(*args, **kwargs):
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            given = given.arguments
            mine = {p.name: given.pop(p.name) for p in own}
            build = Builder(size, minimum, fixed, **given)
            outputs = features(build, **mine)
            return build.model(outputs, base.format(**mine))

        builder.__signature__ = signature
        text, _, arguments = inspect.getdoc(features).partition("\n\nArgs:")
        shared_text = _SHARED.format(
            size=size, minimum=minimum, none="" if fixed else " or `None`", name=base
        )
        builder.__doc__ = f"{text}\n\nArgs:{arguments}{shared_text}"
        return builder

    return decorate


class Builder:
    """Inputs, normalized convolutions, head and weights of one network.

    Attributes:
        axis: The channel axis of Keras's image data format.
        images: The input tensor.
        finished: Set by a network that has applied its top itself.
    """

    def __init__(
        self,
        size,
        minimum,
        fixed,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
        norm,
        norm_kwargs,
    ):
        if pooling not in (None, "avg", "max"):
            raise ValueError(
                "Argument `pooling` must be None, 'avg' or 'max'. "
                f"Received: pooling={pooling!r}"
            )
        path = isinstance(weights, str | os.PathLike)
        if weights is not None and not (path and os.path.isfile(weights)):
            raise ValueError(
                "Argument `weights` must be None or the path of a file. "
                f"Received: weights={weights!r}"
            )
        if not isinstance(norm_kwargs, dict | None):
            raise TypeError(
                "Argument `norm_kwargs` must be None or a dictionary of arguments. "
                f"Received: norm_kwargs={norm_kwargs!r}"
            )
        last = keras.config.image_data_format() == "channels_last"
        self.axis = -1 if last else 1
        self.spatial = (1, 2) if last else (2, 3)
        self.norm_name = norm
        self.norm_kwargs = dict(norm_kwargs or {})
        self.include_top, self.pooling = include_top, pooling
        self.classes = integer("classes", classes, minimum=1)
        self.activation = classifier_activation
        self.weights, self.name, self.finished = weights, name, False
        if input_tensor is None:
            if input_shape is None:
                input_shape = (size, size, 3) if last else (3, size, size)
            self._check_shape("input_shape", input_shape, minimum, fixed)
            input_tensor = keras.Input(input_shape, name="images")
        elif not isinstance(input_tensor, keras.KerasTensor):
            raise ValueError(
                "Argument `input_tensor` must be None or a Keras tensor. "
                f"Received: input_tensor of type {type(input_tensor).__name__}"
            )
        else:
            shape = tuple(input_tensor.shape[1:])
            self._check_shape("input_tensor", shape, minimum, fixed)
        self.images = input_tensor

    def _check_shape(self, argument, shape, minimum, fixed):
        valid = isinstance(shape, tuple | list) and len(shape) == 3
        valid = valid and all(isinstance(n, int | None) for n in shape)
        if valid:
            sizes = [shape[axis - 1] for axis in self.spatial]
            channels = shape[-1 if self.axis == -1 else 0]
            valid = channels is not None and not (fixed and None in sizes)
            valid = valid and all(n is None or n >= minimum for n in sizes)
        if not valid:
            order = "(height, width, channels)"
            if self.axis == 1:
                order = "(channels, height, width)"
            raise ValueError(
                f"Argument `{argument}` must be of shape {order}, height and width "
                f"at least {minimum}{'' if fixed else ' or None'}. "
                f"Received: {argument}={shape}"
            )

    def default_reduction(self, reduction):
        """Sets `r` of Exemplar Normalization (Sec. 4.1 and 4.2) where none is given."""
        if self.norm_name == "en":
            self.norm_kwargs.setdefault("reduction", reduction)

    def conv(
        self,
        x,
        filters,
        size,
        stride=1,
        *,
        name,
        dilation=1,
        relu=False,
        **norm_kwargs,
    ):
        """Convolution that keeps the size but for its stride, then normalization.

        Args:
            x: Feature maps.
            filters: Output channels; `None` for a depthwise convolution.
            relu: Whether a ReLU follows.
            name: Of the layers `<name>_conv`, `<name>_norm` and `<name>_relu`.
            **norm_kwargs: Arguments of this normalization.
        """
        padding, pad = "same", dilation * (size - 1) // 2
        if stride > 1 and pad:
            # As in the papers: Keras's "same" pads one side only at even sizes.
            x = layers.ZeroPadding2D(pad, name=f"{name}_pad")(x)
            padding = "valid"
        common = {
            "strides": stride,
            "padding": padding,
            "dilation_rate": dilation,
            "use_bias": False,
            "name": f"{name}_conv",
        }
        if filters is None:
            layer = layers.DepthwiseConv2D(
                size, depthwise_initializer="he_normal", **common
            )
        else:
            layer = layers.Conv2D(
                filters, size, kernel_initializer="he_normal", **common
            )
        x = self.norm(layer(x), f"{name}_norm", **norm_kwargs)
        return layers.ReLU(name=f"{name}_relu")(x) if relu else x

    def norm(self, x, name, **kwargs):
        """The network's normalization."""
        kwargs = {**self.norm_kwargs, **kwargs}
        try:
            layer = normalization(
                self.norm_name, x.shape[self.axis], axis=self.axis, name=name, **kwargs
            )
            return layer(x)
        except (ValueError, TypeError) as error:
            if str(error).startswith("Argument `norm`"):
                raise
            raise type(error)(f"Layer `{name}`: {error}") from error

    def max_pool(self, x, name):
        """3x3, stride 2, after a ReLU: zeros pad as well as minus infinity does."""
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        return layers.MaxPooling2D(3, 2, name=name)(x)

    def model(self, x, name):
        """The `keras.Model` that ends in a classifier, a pooling or `x` itself."""
        if not self.finished:
            if self.include_top or self.pooling == "avg":
                x = layers.GlobalAveragePooling2D(name="pool")(x)
            elif self.pooling == "max":
                x = layers.GlobalMaxPooling2D(name="pool")(x)
            if self.include_top:
                # Half precision is too coarse for probabilities.
                x = layers.Dense(
                    self.classes,
                    activation=self.activation,
                    name="predictions",
                    dtype=at_least_float32(),
                )(x)
        inputs = keras.utils.get_source_inputs(self.images)
        # A list of one input would have to be called with a list.
        inputs = inputs[0] if len(inputs) == 1 else inputs
        name = self.name or f"{name}_{norm_name(self.norm_name)}"
        model = keras.Model(inputs, x, name=name)
        if self.weights is not None:
            load_weights(model, self.weights)
        return model


def at_least_float32():
    policy = keras.config.dtype_policy().variable_dtype
    return policy if policy == "float64" else "float32"


def load_weights(model, path):
    """`model.load_weights(path)`, whose error names the first layer that differs.

    Raises:
        ValueError: The file is of another architecture, or no file of weights. What
            `model` holds is then undefined.
    """
    wanted = f"Argument `weights` must be a file of the weights of {model.name}"
    received = f"Received: weights={str(path)!r}"
    try:
        with warnings.catch_warnings():
            # Of the layers that the error names.
            warnings.filterwarnings("ignore", "Skipping nested container")
            model.load_weights(path)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        # Keras: "object <Conv2D name=stem_conv, built=True>: \n\n the reason".
        found = re.search(r"object <\w+ name=([^,>]+)[^>]*>:\s*(\S[^\n]*)", str(error))
        if found is None:
            raise ValueError(f"{wanted}: {one_line(error)} {received}") from error
        raise ValueError(
            f"{wanted}; nothing was loaded. The first layer that differs is "
            f"`{found[1]}`: {found[2]} {received}"
        ) from error
