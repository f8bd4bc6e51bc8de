"""The one place where a normalization is chosen by name."""

import keras

from keras_en.layers import (
    ExemplarNormalization,
    SparseSwitchableNormalization,
    SwitchableNormalization,
)

NAMES = ("en", "sn", "ssn", "bn", "sync_bn", "gn", "in", "ln")


def normalization(norm, channels, axis=-1, name=None, **kwargs):
    """The normalization layer called `norm`.

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
              groups not above 32 that divides `channels`;
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
    groups = {
        "gn": max(g for g in range(1, min(32, channels) + 1) if channels % g == 0),
        "in": -1,
        "ln": 1,
    }
    known = {
        "en": ExemplarNormalization,
        "sn": SwitchableNormalization,
        "ssn": SparseSwitchableNormalization,
        "bn": keras.layers.BatchNormalization,
        "sync_bn": SwitchableNormalization,
        **dict.fromkeys(groups, keras.layers.GroupNormalization),
    }
    if callable(norm):
        return norm(axis=axis, name=name, **kwargs)
    if isinstance(norm, str) and norm in known:
        if norm in groups:
            kwargs = {"groups": groups[norm], **kwargs}
        elif norm == "sync_bn":
            kwargs = {"normalizers": ("batch",), "synchronized": True, **kwargs}
        return known[norm](axis=axis, name=name, **kwargs)
    raise ValueError(
        f"Argument `norm` must be one of {NAMES}, a layer class or a callable. "
        f"Received: norm={norm!r}"
    )


def norm_name(norm):
    """What a network with `norm` is called after."""
    name = norm if isinstance(norm, str) else getattr(norm, "__name__", "norm").lower()
    return name if name.isidentifier() else "norm"  # a lambda has no name
