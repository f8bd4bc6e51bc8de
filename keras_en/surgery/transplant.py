"""From one normalization to another: what it has learned, and what it is set to."""

import random
from typing import NamedTuple

import keras
import numpy as np

from keras_en import layers
from keras_en.arguments import check, require
from keras_en.layers.normalizer_pool import default_pool
from keras_en.models import norms
from keras_en.ops import ratios
from keras_en.variables import copy_value

_KINDS = ("mean", "variance")
# Of batch renormalization, beside the moving statistics.
_RENORM = ("moving_stddev", "renorm_mean", "renorm_stddev")
# What holds the ratios that a layer starts with.
_RATIOS = ("ratio_output_kernel", "ratio_output_bias", "mean_logits", "variance_logits")
SWITCHABLE = (layers.SwitchableNormalization, layers.SparseSwitchableNormalization)
NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    layers.ExemplarNormalization,
    *SWITCHABLE,
)
# What the configuration of one layer says to another, if that has it too.
CARRIED = ["momentum", "epsilon", "center", "scale", "synchronized"]
CARRIED += ["renorm", "renorm_clipping", "renorm_momentum"]
CARRIED += [
    f"{part}_{kind}"
    for part in ("gamma", "beta", "moving_mean", "moving_variance")
    for kind in ("initializer", "regularizer", "constraint")
]


def replacement(old, path, to, initial_ratios, norm_kwargs):
    """A built layer in the place of `old`, see `surgery.replace_normalization`.

    Args:
        old: Layer of one of `NORMALIZATIONS`, built.
        path: Its path, for errors.
        to, initial_ratios, norm_kwargs: As given there.

    Returns:
        The layer, and a list of what was lost, in words.

    Raises:
        ValueError, TypeError: `old` behaves in a way that no other layer has, or the
            new layer refuses its arguments or shape.
    """
    names = [c.__name__ for c in NORMALIZATIONS]
    what = f"be a network without subclasses of {names} among the selected layers"
    received = f"{path}, of class {type(old).__name__}"
    require(type(old) in NORMALIZATIONS, "Argument `model`", what, received)
    learned, shape = Learned.of(old), _input_shape(old)
    try:
        arguments = norm_kwargs
        if isinstance(to, str | type):
            carried = _carried(old, learned, to, initial_ratios, norm_kwargs)
            arguments = {**carried, **norm_kwargs}
        new = norms.normalization(
            to, shape[old.axis], axis=old.axis, name=old.name, **arguments
        )
        new.build(shape)
        # So that the next layer draws other first weights: nothing is drawn between.
        random.random()
    except (ValueError, TypeError) as error:
        raise type(error)(f"Layer `{path}`: {error}") from error
    if type(new) is type(old) and _alike_in_all(old, new):
        started = _RATIOS if initial_ratios is not None else ()
        for variable, value in zip(new.variables, old.variables, strict=True):
            if variable.name not in started:
                copy_value(variable, value)
        return new, []
    lost = learned.put(new, with_ratios=initial_ratios is None)
    return new, lost + _penalized_rows(learned, new)


def _penalized_rows(learned, new):
    """That a penalty of gamma has become one of as many rows as there are normalizers:
    of `beta` all but one row are 0."""
    gamma = getattr(new, "gamma", None)
    if gamma is None or learned.gamma is None or new.gamma_regularizer is None:
        return []
    more = gamma.shape[0] if len(gamma.shape) > learned.gamma.ndim else 1
    return [f"gamma_regularizer counts {more} rows"] if more > 1 else []


def _alike_in_all(old, new):
    """Whether the weights of one mean in the other what they mean in itself."""
    names = ("pool", "groups", "ratio_head", "ratio_activation", "resolved_reduction")
    return all(
        getattr(old, name, None) == getattr(new, name, None) for name in names
    ) and [v.shape for v in old.variables] == [v.shape for v in new.variables]


def alike(layer, to, norm_kwargs):
    """Whether `layer` normalizes as one made by `to` would."""
    channels = _input_shape(layer)[layer.axis]
    probe = norms.normalization(to, channels, **norm_kwargs)
    return _kind(probe, channels) == _kind(layer, channels)


def _kind(layer, channels):
    """What tells normalizations of different names apart."""
    variant = None
    if isinstance(layer, keras.layers.GroupNormalization):
        variant = channels if layer.groups == -1 else layer.groups
    elif isinstance(layer, SWITCHABLE) and len(layer.normalizers or ()) == 1:
        variant = layer.normalizers
    return type(layer), variant


def _carried(old, learned, to, initial_ratios, norm_kwargs):
    """Arguments that the new layer has from the old one, beside axis and name."""
    shape, config = _input_shape(old), old.get_config()
    probe = norms.normalization(to, shape[old.axis], **norm_kwargs)
    accepted = probe.get_config()
    is_batch = type(probe) is keras.layers.BatchNormalization
    if is_batch and keras.backend.backend() != "tensorflow":
        del accepted["synchronized"]  # There Keras refuses it.
    arguments = {n: config[n] for n in CARRIED if n in config and n in accepted}
    if accepted.get("share_affine") is False and "share_affine" not in config:
        for part in ("gamma", "beta"):
            name = f"{part}_constraint"
            arguments[name] = _of_rows(arguments[name])
    arguments |= {"trainable": old.trainable, "dtype": old.dtype_policy}
    if "initial_ratios" in accepted:
        pool = probe.normalizers or default_pool(len(shape))
        arguments["initial_ratios"] = _start(learned, pool, initial_ratios)
        if "group" in pool and getattr(old, "groups", 1) > 1:
            arguments["groups"] = old.groups
    else:
        allowed = f"None for {to!r}, which mixes nothing"
        check(initial_ratios is None, "initial_ratios", allowed, initial_ratios)
    return arguments


def _of_rows(constraint):
    """A constraint along the channels of `(C,)`, along those of `(K, C)`."""
    if constraint is None or constraint["config"].get("axis") != 0:
        return constraint
    return {**constraint, "config": {**constraint["config"], "axis": 1}}


def _start(learned, pool, initial_ratios):
    """The ratios that a new mixture of `pool` starts with."""
    if len(pool) == 1:
        return None
    if initial_ratios is not None:
        return initial_ratios
    if learned.shares and set(learned.shares) <= set(pool):
        return {**dict.fromkeys(pool, 0.0), **learned.shares}
    return {learned.own: 0.9} if learned.own in pool else None


class Learned(NamedTuple):
    """What one normalization has learned, in terms of any other.

    - `own`: the normalizer that the layer is, "batch" where it mixes them.
    - `gamma`, `beta`: `(C,)` or `None`. `moving`: mean and variance, or `None`.
    - `shares`: from normalizer to ratio, or `None` where it does not mix.
    - `pair`: those of mean and variance, where they differ.
    - `renorm`: what batch renormalization keeps beside `moving`, by name, or `None`.
    """

    own: str
    gamma: object
    beta: object
    moving: object
    shares: object = None
    pair: object = None
    renorm: object = None

    @classmethod
    def of(cls, layer):
        values = cls("batch", _array(layer.gamma), _array(layer.beta), _moving(layer))
        if getattr(layer, "moving_stddev", None) is not None:
            renorm = {name: _array(getattr(layer, name)) for name in _RENORM}
            values = values._replace(renorm=renorm)
        if isinstance(layer, keras.layers.GroupNormalization):
            normalizers = {_input_shape(layer)[layer.axis]: "instance", 1: "layer"}
            values = values._replace(own=normalizers.get(layer.groups, "group"))
        elif isinstance(layer, layers.ExemplarNormalization):
            values = values.of_exemplar(layer)
        elif isinstance(layer, SWITCHABLE):
            values = values.of_switchable(layer)
        if values.shares is not None and len(values.shares) == 1:
            (own,) = values.shares
            values = values._replace(own=own, shares=None)
        return values

    def of_exemplar(self, layer):
        """Gamma and beta of all rows, as one sample with the ratios of the last bias
        sees them."""
        shares = _array(ratios.softmax(layer.ratio_output_bias.value[None]))[0]
        gamma, beta = self.gamma, self.beta
        if gamma is not None and gamma.ndim == 2:
            gamma = shares @ gamma
        if beta is not None and beta.ndim == 2:
            beta = beta.sum(axis=0)
        shares = _by_name(layer.pool, shares)
        return self._replace(gamma=gamma, beta=beta, shares=shares)

    def of_switchable(self, layer):
        mean, variance = (
            _by_name(layer.pool, _array(layer.ratios()[kind])) for kind in _KINDS
        )
        shares = {name: (mean[name] + variance[name]) / 2 for name in layer.pool}
        return self._replace(shares=shares, pair=(mean, variance))

    def put(self, layer, with_ratios):
        """Assigns to `layer` what it has room for, and returns what was lost, in
        words.

        Args:
            with_ratios: Whether a switchable layer gets the pair of ratios.
        """
        has_gamma, has_beta, has_moving = (
            getattr(layer, name, None) is not None
            for name in ("gamma", "beta", "moving_mean")
        )
        if has_gamma and self.gamma is not None:
            layer.gamma.assign(np.broadcast_to(self.gamma, tuple(layer.gamma.shape)))
        if has_beta and self.beta is not None:
            self._put_beta(layer)
        if has_moving and self.moving:
            layer.moving_mean.assign(self.moving[0])
            layer.moving_variance.assign(self.moving[1])
            self._put_renorm(layer)
        lost = {
            "gamma dropped": self.gamma is not None and not has_gamma,
            "beta dropped": self.beta is not None and not has_beta,
            "moving statistics dropped": self.moving and not has_moving,
            "moving statistics start anew: recalibrate": has_moving and not self.moving,
        }
        texts = [text for text, is_lost in lost.items() if is_lost]
        return texts + self._put_ratios(layer, with_ratios)

    def _put_renorm(self, layer):
        if getattr(layer, "moving_stddev", None) is None:
            return
        mean, variance = self.moving
        stddev = np.sqrt(variance + layer.epsilon)
        start = dict(zip(_RENORM, (stddev, mean, stddev), strict=True))
        for name, value in (self.renorm or start).items():
            getattr(layer, name).assign(value)

    def _put_beta(self, layer):
        beta = np.zeros(tuple(layer.beta.shape), self.beta.dtype)
        if beta.ndim == 2:
            # Eq. 3 adds all rows, whatever the ratios.
            row = layer.pool.index(self.own) if self.own in layer.pool else 0
            beta[row] = self.beta
        else:
            beta[:] = self.beta
        layer.beta.assign(beta)

    def _put_ratios(self, layer, with_ratios):
        pool = getattr(layer, "pool", ())
        if self.shares is None:
            absent = pool and self.own not in pool
            return [f'no "{self.own}", which it was, to start with'] if absent else []
        if not set(self.shares) <= set(pool):
            return ["ratios dropped"]
        if isinstance(layer, layers.ExemplarNormalization) or self.pair is None:
            return ["ratios are those that are the same for all samples"]
        if with_ratios and isinstance(layer, SWITCHABLE):
            for kind, shares in zip(_KINDS, self.pair, strict=True):
                logits = layer.logits_of([shares.get(name, 0.0) for name in pool])
                getattr(layer, f"{kind}_logits").assign(logits)
        return []


def _input_shape(layer):
    """Of a normalization that is built."""
    return layer.get_build_config()["input_shape"]


def _array(value):
    return None if value is None else keras.ops.convert_to_numpy(value)


def _moving(layer):
    if getattr(layer, "moving_mean", None) is None:
        return None
    return _array(layer.moving_mean), _array(layer.moving_variance)


def _by_name(pool, shares):
    # float32 shares do not sum to 1 as float64 ones would.
    shares = np.asarray(shares, "float64")
    return dict(zip(pool, (shares / shares.sum()).tolist(), strict=True))
