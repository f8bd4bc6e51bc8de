"""Layers whose code makes other normalizations than they have, kept by a file.

Keras makes a layer again from its configuration: by its class, whose code makes the old
normalizations. `note` makes an instance one of a subclass, of the same name, whose
configuration has an entry more: the place of each new normalization and what it is.
Where Keras makes the layer from that, the class makes it first, and then the
normalizations are put there: at once where there are others, the rest when the layer
has been built.
"""

import functools
import types

import keras

from keras_en.surgery import layer_tree

ENTRY = "keras_en_surgery"
_register = keras.saving.register_keras_serializable("keras_en", "Rebuilt")


@_register
class Rebuilt(keras.layers.Layer):
    """What Keras finds by the name that all these subclasses have in a file: a layer,
    since Keras registers no class without a configuration. None is ever made."""

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        entry = config.pop(ENTRY)
        layer = {**entry["layer"], "config": config}
        return _put_or_wait(keras.saving.deserialize_keras_object(layer), entry)


class _Notes:
    """From the place of each normalization, see `layer_tree.parts_below`, to what
    `keras.saving` writes of the one that stood there last."""

    def __init__(self, serialized):
        self.serialized = serialized

    def update(self, layer):
        parts = layer_tree.parts_below(layer)
        for place in self.serialized:
            if place in parts:
                normalization = keras.saving.serialize_keras_object(parts[place])
                self.serialized[place] = normalization
        return [[list(place), data] for place, data in self.serialized.items()]


def note(layer, places):
    """Makes the configuration of `layer` say which normalizations it has at `places`,
    beside those that were noted before."""
    if not hasattr(layer, "keras_en_surgery"):
        layer.keras_en_surgery = _Notes({})
        # A backend's layer would take it for a part.
        object.__setattr__(layer, "__class__", _subclass(type(layer)))
    layer.keras_en_surgery.serialized |= dict.fromkeys(places)


@functools.cache
def _subclass(cls):
    # Keras asks a method whether it is its own, which `wraps` copies.
    @functools.wraps(cls.get_config)
    def get_config(self):
        origin = {
            "module": cls.__module__,
            "class_name": cls.__name__,
            "registered_name": keras.saving.get_registered_name(cls),
        }
        normalizations = self.keras_en_surgery.update(self)
        entry = {"layer": origin, "normalizations": normalizations}
        return {**cls.get_config(self), ENTRY: entry}

    def from_config(_, config):
        config = dict(config)
        entry = config.pop(ENTRY)
        return _put_or_wait(cls.from_config(config), entry)

    def __reduce__(self):
        # By a method of the class that pickle can import.
        function, *rest = cls.__reduce__(self)
        return types.MethodType(function.__func__, cls), *rest

    methods = {"get_config": get_config, "from_config": classmethod(from_config)}
    methods["__reduce__"] = __reduce__
    # Keras names the weights of a list's layers after their class.
    names = {"__qualname__": cls.__qualname__, "__module__": __name__}
    subclass = type(cls)(cls.__name__, (cls,), {**methods, **names})
    _register(subclass)
    # Of the two ways, from class to name and back, the latter is not of this one.
    _register(Rebuilt)
    return subclass


def _put_or_wait(layer, entry):
    serialized = {tuple(place): data for place, data in entry["normalizations"]}
    rest = _put(layer, serialized)
    note(layer, [])
    layer.keras_en_surgery.serialized |= serialized
    build = layer.build

    @functools.wraps(build)
    def build_and_put(*args, **kwargs):
        layer.build = build
        # A file has no tuples, which the code of a layer may add to.
        build(*keras.tree.map_shape_structure(_as_tuple, args), **kwargs)
        _put(layer, rest)

    layer.build = build_and_put
    return layer


def _as_tuple(shape):
    return tuple(shape) if isinstance(shape, list) else shape


def _put(layer, serialized):
    """Puts normalizations where others are, and returns what is left of them."""
    parts = layer_tree.parts_below(layer)
    rest, others = {}, {}
    for place, data in serialized.items():
        if place in parts:
            if not parts[place].built:
                # Who builds that one will build this one.
                data = {key: data[key] for key in data if key != "build_config"}
            other = keras.saving.deserialize_keras_object(data)
            others[id(parts[place])] = other
        else:
            rest[place] = data
    layer_tree.exchange(layer, others)
    return rest
