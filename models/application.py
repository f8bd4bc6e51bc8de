"""The arguments that every network shares with `keras.applications`."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec

import keras

from keras_en.arguments import check, integer

from .builder import Builder
from .norms import NAMES, check_norm

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


@dataclasses.dataclass
class Options:
    """The arguments of a network, checked. A network with more of them, or with
    another default, is a subclass: its fields are the arguments of the builder."""

    include_top: bool = True
    weights: str | os.PathLike[str] | None = None
    input_tensor: Any = None
    input_shape: tuple[int | None, ...] | None = None
    pooling: str | None = None
    classes: int = 1000
    classifier_activation: str | Callable[..., Any] | None = "softmax"
    name: str | None = None
    norm: str | Callable[..., Any] = "en"
    norm_kwargs: dict[str, Any] | None = None
    # What `norm` may be by name.
    norms: ClassVar[tuple[str, ...]] = NAMES

    def __post_init__(self) -> None:
        pooling, weights = self.pooling, self.weights
        valid = pooling in (None, "avg", "max")
        check(valid, "pooling", "None, 'avg' or 'max'", pooling)
        valid = weights is None or (
            isinstance(weights, str | os.PathLike) and os.path.isfile(weights)
        )
        check(valid, "weights", "None or the path of a file", weights)
        valid = isinstance(self.norm_kwargs, dict | None)
        allowed = "None or a dictionary of arguments"
        check(valid, "norm_kwargs", allowed, self.norm_kwargs, kind=TypeError)
        check_norm("norm", self.norm, self.norms)
        self.classes = integer("classes", self.classes, minimum=1)


P = ParamSpec("P")


def application(
    options: Callable[P, Options],
    size: int,
    minimum: int = 32,
    fixed: bool = False,
    name: str | None = None,
    own_top: bool = False,
) -> Callable[[Callable[[Builder], Any]], Callable[P, keras.Model]]:
    """Makes a builder of networks out of a function that makes feature maps.

    The builder has the arguments of `options`, in their order and with their defaults,
    for type checkers and for `inspect.signature`.

    Args:
        options: `Options`, or a subclass of it.
        size: Height and width of an image by default.
        minimum: Least height and width.
        fixed: Whether height and width must be known.
        name: Of models; that of the function in lower case if `None`. May hold
            arguments: "resnet{depth}".
        own_top: Whether the function applies the top itself.

    Returns:
        Decorator of a function from a `Builder`, which holds the arguments as
        `options`, to the last feature maps, or to the outputs where it applies the
        top. In the docstring of the function "Args:", if any, has to come last.
    """

    def decorate(features):
        base = name or features.__name__.lower()

        @functools.wraps(features)
        def builder(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
            chosen = options(*args, **kwargs)
            build = Builder(chosen, size, minimum, fixed)
            x = features(build)
            if not (own_top and chosen.include_top):
                x = build.top(x)
            return build.model(x, base.format(**vars(chosen)))

        signature = inspect.signature(options)
        builder.__signature__ = signature.replace(return_annotation=keras.Model)
        text, _, arguments = inspect.getdoc(features).partition("\n\nArgs:")
        shared = _SHARED.format(
            size=size, minimum=minimum, none="" if fixed else " or `None`", name=base
        )
        builder.__doc__ = f"{text}\n\nArgs:{arguments}{shared}"
        return builder

    return decorate
