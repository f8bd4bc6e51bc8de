"""What makes one run of training the same as another."""

import json
import re

from keras_en.keras_private import layers_of
from keras_en.training import keras_private


def identity(model, data, first, **options):
    """What has to be equal in a run and in one that goes on with it: values of JSON.

    The learning rate is none of it: it is a variable, or a schedule that may depend
    on the number of epochs.

    Args:
        model: Compiled and built `keras.Model`.
        data: `feed.Source`.
        first: Samples of the first batch.
        **options: Arguments of `fit`.
    """
    optimizer = keras_private.inner_optimizer(model.optimizer)
    settings = optimizer.get_config()
    for name in ("name", "learning_rate"):
        settings.pop(name, None)
    values = {
        **options,
        "steps of an epoch": data.steps,
        "samples of the first batch": first,
        "optimizer": type(optimizer).__name__,
        "options of the optimizer": settings,
        "layers": [_described(layer) for layer in layers_of(model)],
    }
    return json.loads(json.dumps(values, default=str))


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
        elif isinstance(value, dict) and isinstance(other, dict):
            names = [k for k in {**value, **other} if value.get(k) != other.get(k)]
            value, other = ({k: v.get(k) for k in names} for v in (value, other))
        texts.append(f"{name}: {value} here, {other} there")
    return texts


def _described(layer):
    """Name, class and policy of a layer; without the number that Keras gives to names
    of its own, which counts the layers of a process."""
    name, kind = layer.name, type(layer).__name__
    bare = re.sub(r"_\d+$", "", name)
    if bare.replace("_", "") == kind.lower():
        name = bare
    return [name, kind, layer.dtype_policy.name]
