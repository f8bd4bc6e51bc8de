"""What TensorFlow writes: functions, and what they need."""

from pathlib import Path
from typing import Any

import keras

from keras_en.keras_private import layers_of


def save(model: keras.Model, functions: dict[str, Any], path: Path) -> None:
    """Writes `tf.ConcreteFunction`s of a model, signatures by name, as they are.

    Not with the model, nor by `keras.export.ExportArchive`: both have TensorFlow trace
    more functions, and with the model variables are saved twice.
    """
    import tensorflow as tf

    saved = tf.Module()
    used = [v for function in functions.values() for v in function.variables]
    saved.weights = list({id(variable): variable for variable in used}.values())
    saved.tables = _tables(model)
    for name, function in functions.items():
        setattr(saved, name, function)
    tf.saved_model.save(saved, str(path), signatures=functions)


def _tables(model):
    """Tables and the like, wherever a layer holds them."""
    import tensorflow as tf

    kind, tables = tf.saved_model.experimental.TrackableResource, {}
    for layer in layers_of(model):
        for value in _inside([*vars(layer).values()]):
            # Layers have their own turn.
            other = isinstance(value, keras.Layer)
            if isinstance(value, (kind, tf.Module)) and not other:
                inside = tf.train.TrackableView(value).descendants()
                tables.update({id(one): one for one in inside if isinstance(one, kind)})
    return list(tables.values())


def _inside(value):
    """What collections hold; `keras.tree` cannot sort keys that are objects, as those
    of Keras's own dictionaries are."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        for one in value:
            yield from _inside(one)
    else:
        yield value
