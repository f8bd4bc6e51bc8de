"""From one normalization to another: what it has learned, and what it is set to."""

from typing import NamedTuple

import keras
import numpy as np

from keras_en.arguments import check
from keras_en.layers import (
    ExemplarNormalization,
    SparseSwitchableNormalization,
    SwitchableNormalization,
)
from keras_en.layers.normalizer_pool import default_pool
from keras_en.models import norms
from keras_en.ops import ratios

_KINDS = ("mean", "variance")
SWITCHABLE = (SwitchableNormalization, SparseSwitchableNormalization)
KNOWN = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    ExemplarNormalization,
    *SWITCHABLE,
)
# What the configuration of one layer says to another, if that has it too.
CARRIED = ["momentum", "epsilon", "center", "scale", "synchronized"]
CARRIED += [
    f"{part}_{kind}"
    for part in ("gamma", "beta", "moving_mean", "moving_variance")
    for kind in ("initializer", "regularizer", "constraint")
]


def replacement(old, path, to, initial_ratios, norm_kwargs):
    """A built layer in the place of `old`, see `surgery.replace_normalization`.

    Args:
        old: Layer of one of `KNOWN`, built.
        path: Its path, for errors.
        to, initial_ratios, norm_kwargs: As given there.

    Returns:
        The layer, and a list of what was lost, in words.

    Raises:
        ValueError, TypeError: `old` behaves in a way that no other layer has, or the
            new layer refuses its arguments or shape.
    """
    check(
        type(old) in KNOWN and not getattr(old, "renorm", False),
        "model",
        f"a network without subclasses of {[k.__name__ for k in KNOWN]} and without "
        "renorm=True among the selected layers",
        f"{path}, {type(old).__name__}",
        "layer",
    )
    learned = Learned.of(old)
    shape = _shape(old)
    try:
        settings = _settings(old, learned, to, initial_ratios, norm_kwargs)
        new = norms.normalization(
            to, shape[old.axis], axis=old.axis, name=old.name, **settings
        )
        new.build(shape)
    except (ValueError, TypeError) as error:
        raise type(error)(f"Layer `{path}`: {error}") from error
    if type(new) is type(old) and _alike_in_all(old, new):
        for variable, value in zip(new.variables, old.variables, strict=True):
            variable.assign(value)
        return new, []
    return new, learned.put(new, initial_ratios is None)


def _alike_in_all(old, new):
    """Whether the weights of one mean in the other what they mean in itself."""
    names = ("pool", "groups", "ratio_head", "ratio_activation", "resolved_reduction")
    return all(
        getattr(old, name, None) == getattr(new, name, None) for name in names
    ) and [v.shape for v in old.variables] == [v.shape for v in new.variables]


def alike(layer, to, norm_kwargs):
    """Whether `layer` normalizes as one made by `to` would."""
    channels = _shape(layer)[layer.axis]
    probe = norms.normalization(to, channels, **norm_kwargs)
    return _kind(probe, channels) == _kind(layer, channels)


def _kind(layer, channels):
    found = [type(layer)]
    if isinstance(layer, keras.layers.GroupNormalization):
        found.append(channels if layer.groups == -1 else layer.groups)
    elif isinstance(layer, SWITCHABLE):
        single = layer.normalizers is not None and len(layer.normalizers) == 1
        found.append(layer.normalizers if single else None)
    return found


def _settings(old, learned, to, initial_ratios, norm_kwargs):
    """Arguments of the new layer, beside its axis and name."""
    if not isinstance(to, str | type):
        return norm_kwargs
    probe = norms.normalization(to, _shape(old)[old.axis], **norm_kwargs)
    taken = probe.get_config()
    theirs = type(probe) is keras.layers.BatchNormalization
    if theirs and keras.backend.backend() != "tensorflow":
        del taken["synchronized"]  # There Keras refuses it.
    config = old.get_config()
    found = {n: config[n] for n in CARRIED if n in config and n in taken}
    found |= {"trainable": old.trainable, "dtype": old.dtype_policy}
    if "initial_ratios" in taken:
        pool = probe.normalizers or default_pool(len(_shape(old)))
        start, shares = initial_ratios, learned.shares
        if start is None and shares and set(shares) <= set(pool):
            start = {**dict.fromkeys(pool, 0.0), **shares}
        elif start is None and learned.own in pool:
            start = {learned.own: 0.9}
        found["initial_ratios"] = start if len(pool) > 1 else None
        if "group" in pool and getattr(old, "groups", 1) > 1:
            found["groups"] = old.groups
    else:
        check(
            initial_ratios is None,
            "initial_ratios",
            f"None for {to!r}, which mixes nothing",
            initial_ratios,
        )
    return {**found, **norm_kwargs}


class Learned(NamedTuple):
    """What one normalization has learned, in terms of any other.

    - `own`: the normalizer that the layer is, "batch" where it mixes them.
    - `gamma`, `beta`: `(C,)` or `None`. `moving`: mean and variance, or `None`.
    - `shares`: from normalizer to ratio, or `None` where it does not mix.
    - `pair`: those of mean and variance, where they differ.
    """

    own: str
    gamma: object
    beta: object
    moving: object
    shares: object
    pair: object

    @classmethod
    def of(cls, layer):
        gamma, beta = (_array(getattr(layer, name)) for name in ("gamma", "beta"))
        moving = [
            getattr(layer, name, None) for name in ("moving_mean", "moving_variance")
        ]
        moving = None if moving[0] is None else [_array(v) for v in moving]
        own, shares, pair = "batch", None, None
        if isinstance(layer, keras.layers.GroupNormalization):
            channels = _shape(layer)[layer.axis]
            own = {channels: "instance", 1: "layer"}.get(layer.groups, "group")
        elif isinstance(layer, ExemplarNormalization):
            values = ratios.softmax(layer.ratio_output_bias.value[None])
            shares = _array(values)[0]
            if gamma is not None and gamma.ndim == 2:
                gamma = shares @ gamma
            if beta is not None and beta.ndim == 2:
                beta = beta.sum(axis=0)
            shares = _by_name(layer.pool, shares)
        elif isinstance(layer, SWITCHABLE):
            found = layer.ratios()
            pair = [_by_name(layer.pool, _array(found[kind])) for kind in _KINDS]
            shares = {k: (pair[0][k] + pair[1][k]) / 2 for k in layer.pool}
        if shares is not None and len(shares) == 1:
            (own,), shares = shares, None
        return cls(own, gamma, beta, moving, shares, pair)

    def put(self, layer, shares):
        """Assigns to `layer` what it has room for, the ratios if `shares`; what was
        lost, in words."""
        lost = []
        if self.gamma is not None and getattr(layer, "gamma", None) is not None:
            shape = tuple(layer.gamma.shape)
            layer.gamma.assign(np.broadcast_to(self.gamma, shape))
        elif self.gamma is not None:
            lost.append("gamma dropped")
        if self.beta is not None and getattr(layer, "beta", None) is not None:
            beta = np.zeros(tuple(layer.beta.shape), self.beta.dtype)
            if beta.ndim == 2:
                # Eq. 3 adds all rows, whatever the ratios.
                row = layer.pool.index(self.own) if self.own in layer.pool else 0
                beta[row] = self.beta
            else:
                beta[:] = self.beta
            layer.beta.assign(beta)
        elif self.beta is not None:
            lost.append("beta dropped")
        moves = getattr(layer, "moving_mean", None) is not None
        if moves and self.moving is not None:
            layer.moving_mean.assign(self.moving[0])
            layer.moving_variance.assign(self.moving[1])
        elif moves:
            lost.append("moving statistics start anew: recalibrate")
        elif self.moving is not None:
            lost.append("moving statistics dropped")
        pool = getattr(layer, "pool", ())
        if self.shares is None:
            if pool and self.own not in pool:
                lost.append(f'no "{self.own}", which it was, to start with')
        elif not set(self.shares) <= set(pool):
            lost.append("ratios dropped")
        elif shares and isinstance(layer, SWITCHABLE) and self.pair:
            for kind, found in zip(_KINDS, self.pair, strict=True):
                logits = layer.logits_of([found.get(name, 0.0) for name in pool])
                getattr(layer, f"{kind}_logits").assign(logits)
        elif isinstance(layer, ExemplarNormalization) or self.pair is None:
            lost.append("ratios are those that are the same for all samples")
        return lost


def _shape(layer):
    """Of the input of a normalization that is built."""
    return layer.get_build_config()["input_shape"]


def _array(value):
    return None if value is None else keras.ops.convert_to_numpy(value)


def _by_name(pool, shares):
    # float32 shares do not sum to 1 as float64 ones would.
    shares = np.asarray(shares, "float64")
    return dict(zip(pool, (shares / shares.sum()).tolist(), strict=True))
