"""The one place where a normalization is chosen by name."""

from collections.abc import Callable
from typing import Any

import keras

from keras_en import layers
from keras_en.arguments import check

LAYERS = {
    "en": layers.ExemplarNormalization,
    "sn": layers.SwitchableNormalization,
    "ssn": layers.SparseSwitchableNormalization,
    "bn": keras.layers.BatchNormalization,
    "sync_bn": layers.SwitchableNormalization,
    **dict.fromkeys(("gn", "in", "ln"), keras.layers.GroupNormalization),
}
NAMES = tuple(LAYERS)


def check_norm(argument: str, norm: Any, names: tuple[str, ...] = NAMES) -> None:
    """Raises `ValueError` unless `norm` is a name, a layer class or a callable."""
    valid = callable(norm) or (isinstance(norm, str) and norm in names)
    check(valid, argument, f"one of {names}, a layer class or a callable", norm)


def normalization(
    norm: str | Callable[..., Any],
    channels: int,
    axis: int = -1,
    name: str | None = None,
    **kwargs: Any,
) -> keras.layers.Layer:
    """The normalization layer called `norm`.

    >>> normalization("gn", 48, name="norm").groups
    24

    Args:
        norm: One of
            - "en": `keras_en.ExemplarNormalization`;
            - "sn": `keras_en.SwitchableNormalization`;
            - "ssn": `keras_en.SparseSwitchableNormalization`;
            - "bn": `keras.layers.BatchNormalization`;
            - "sync_bn": `keras_en.SwitchableNormalization` with "batch" alone, whose
              weights are those of `BatchNormalization`, synchronized. Keras's own
              `synchronized=True` loses the variance of large means, needs three
              collectives a layer and forgets about replicas where there is a mask;
            - "gn": `keras.layers.GroupNormalization` with the largest number of
              groups not above 32 that divides `channels` and leaves two to a group,
              since groups of one are instance normalization;
            - "in": the same with a group a channel (instance normalization);
            - "ln": the same with one group: layer normalization over all axes but
              the batch, with gamma and beta of `C` values (Table 1);
            - a layer class, or any callable with the arguments `axis` and `name`.
        channels: Number of channels of the input, `C`.
        axis: Integer, the channel axis.
        name: Name of the layer.
        **kwargs: Further arguments of the layer.

    Returns:
        A `keras.layers.Layer`.

    Raises:
        ValueError: `norm` is unknown.
    """
    check_norm("norm", norm)
    if callable(norm):
        return norm(axis=axis, name=name, **kwargs)
    kwargs = {**_arguments(norm, channels), **kwargs}
    return LAYERS[norm](axis=axis, name=name, **kwargs)


def _arguments(norm, channels):
    """Those that tell normalizations of one class apart."""
    if norm == "sync_bn":
        return {"normalizers": ("batch",), "synchronized": True}
    if norm == "gn":
        groups = range(min(32, max(1, channels // 2)), 0, -1)
        return {"groups": next(g for g in groups if channels % g == 0)}
    return {"in": {"groups": -1}, "ln": {"groups": 1}}.get(norm, {})


def norm_name(norm: str | Callable[..., Any]) -> str:
    """What a network with `norm` is called after."""
    name = norm if isinstance(norm, str) else getattr(norm, "__name__", "norm").lower()
    return name if name.isidentifier() else "norm"  # a lambda has no name
