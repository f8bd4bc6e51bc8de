"""Layers inside layers: how to walk them, copy them and put others in their place."""

import inspect
import warnings

import keras

from keras_en.keras_private import children, source, tracker

# What Keras itself keeps in a layer or a model.
BASE = set(vars(keras.layers.Layer())) | set(vars(keras.Model()))


def join(path, name):
    return f"{path}/{name}" if path else name


def is_graph(layer):
    """Whether it is a `Sequential` or functional model, which `clone_model` copies."""
    if isinstance(layer, keras.Sequential):
        return True
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")


def call(layer, *args, **kwargs):
    """Calls a layer as the one before it was, which may have known more arguments."""
    if isinstance(layer, keras.layers.Layer):
        known = inspect.signature(layer.call).parameters
        if all(p.kind is not p.VAR_KEYWORD for p in known.values()):
            kwargs = {n: v for n, v in kwargs.items() if n in known}
    return layer(*args, **kwargs)


def inputs_like(model):
    """New inputs, which would otherwise have other names."""

    def again(tensor):
        layer = source(tensor)
        return type(layer).from_config(layer.get_config()).output

    return keras.tree.map_structure(again, model.input)


def walk(layer, path="", seen=None):
    """Path and layer of every layer inside, itself included, outer first."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield path, layer
    for child in children(layer):
        yield from walk(child, join(path, child.name), seen)


def build_as(new, old):
    with warnings.catch_warnings():
        # That it cannot be built: what is checked later says so.
        warnings.simplefilter("ignore")
        new.build_from_config(old.get_build_config() or {})
    # As Keras does when it loads a file.
    new.built = True


def attributes(layer):
    """Place and layer of every layer that is an attribute, or in a list or a
    dictionary that is one."""

    def search(place, value):
        if isinstance(value, keras.layers.Layer):
            yield place, value
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from search((*place, key), item)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield from search((*place, i), item)

    # On torch a layer is a module, which keeps those inside it by themselves.
    held = {**vars(layer), **vars(layer).get("_modules", {})}
    for name, value in held.items():
        if name not in BASE and not name.startswith(("_self_", "_tracked")):
            yield from search((name,), value)


def put(layer, place, new):
    """Puts `new` where `attributes` found another."""
    *path, last = place
    holder = layer
    for i, key in enumerate(path):
        holder = getattr(holder, key) if i == 0 else holder[key]
    tracker(layer).unlock()
    old = getattr(holder, last) if not path else holder[last]
    if old is not new:
        tracker(layer).untrack(old)
        if path:
            holder[last] = new
            tracker(layer).track(new)
        else:
            setattr(holder, last, new)


def own_variables(layer):
    """Those that belong to none of the layers inside it."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    inner = {id(v) for child in children(layer) for v in child.variables}
    return [v for v in layer.variables if id(v) not in inner]
