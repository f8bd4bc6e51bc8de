"""What makes one run of training the same as another."""

import json

import keras

from keras_en.keras_private import layers_of
from keras_en.text import own_name
from keras_en.training import keras_private, losses


def identity(model, data, first, **options):
    """What has to be equal in a run and in one that goes on with it: values of JSON.

    The learning rate is none of it: it is a variable, or a schedule that may depend
    on the number of epochs. Nor is the momentum of moving statistics, which "auto" in
    a recipe makes of that number.

    Args:
        model: Compiled and built `keras.Model`.
        data: `feed.Source`.
        first: Samples of the first batch.
        **options: Arguments of `fit`.
    """
    optimizer = keras_private.inner_optimizer(model.optimizer)
    layers = [_described(layer) for layer in layers_of(model)]
    settings = _without(("name", "learning_rate"), optimizer.get_config())
    values = {
        **options,
        "steps of an epoch": data.steps,
        "samples of the first batch": first,
        "optimizer": type(optimizer).__name__,
        "options of the optimizer": settings,
        "loss": [_of_loss(loss) for loss in losses.of(model)],
        "weights of losses": keras_private.loss_weights(model),
        "layers": layers,
        "options of layers": {
            f"{i} {name}": _without(("momentum",), _options(layer))
            for i, ((name, *_), layer) in enumerate(
                zip(layers, layers_of(model), strict=True)
            )
        },
    }
    return json.loads(json.dumps(values, default=str))


def _without(names, value):
    """A configuration without some keys, at any depth."""
    if isinstance(value, dict):
        return {k: _without(names, v) for k, v in value.items() if k not in names}
    if isinstance(value, list | tuple):
        return [_without(names, each) for each in value]
    return value


def differences(here, there):
    """Texts, one a value that differs."""
    if not isinstance(there, dict):
        there = {}
    texts = []
    for name, value in here.items():
        other = there.get(name)
        if other == value:
            continue
        if isinstance(value, list) and isinstance(other, list):
            pairs = zip(value + [None], other + [None], strict=False)
            value, other = next(pair for pair in pairs if pair[0] != pair[1])
        else:
            value, other = _without_what_is_equal(value, other)
        texts.append(f"{name}: {value} here, {other} there")
    return texts


def _without_what_is_equal(value, other):
    """Two dictionaries, and those in them, with what differs alone."""
    if not (isinstance(value, dict) and isinstance(other, dict)):
        return value, other
    names = [k for k in {**value, **other} if value.get(k) != other.get(k)]
    pairs = {k: _without_what_is_equal(value.get(k), other.get(k)) for k in names}
    return tuple({k: pair[side] for k, pair in pairs.items()} for side in (0, 1))


def _of_loss(loss):
    """The name of a function, or the class and the options of another loss."""
    loss = keras.losses.get(loss)
    if hasattr(loss, "__name__"):
        return loss.__name__
    options = keras_private.options_of_loss(loss).items()
    plain = {name: value for name, value in options if _is_plain(value)}
    return [type(loss).__name__, {**_options(loss), **plain}]


def _options(thing):
    """What the configuration of a layer or a loss says of what it computes, in plain
    values: initializers are past, and the layers in a model have their own turn."""
    if isinstance(thing, keras.Model):
        return {}
    try:
        config = thing.get_config()
    except Exception:  # To be trained, layers of one's own need none.
        return {}
    return {
        name: value
        for name, value in config.items()
        if name != "name" and (_is_plain(value) or name.endswith("regularizer"))
    }


def _is_plain(value):
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    # Others may be said by their address.
    return value is None or isinstance(value, str | int | float)


def _described(layer):
    """Name, class and policy of a layer."""
    return [own_name(layer), type(layer).__name__, layer.dtype_policy.name]
