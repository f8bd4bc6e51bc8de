"""Layers inside layers: to walk them, make them again, put others in their place."""

import inspect
import tempfile
import warnings

import keras

from keras_en import keras_private, lambdas
from keras_en.arguments import fault, require
from keras_en.keras_private import children, own_variables, source, tracker
from keras_en.text import one_line
from keras_en.variables import copy_value

# What Keras itself keeps in a layer or a model.
BASE = set(vars(keras.layers.Layer())) | set(vars(keras.Model()))


def is_graph(layer):
    """Whether it is a `Sequential` or functional model, which `clone_model` copies."""
    is_functional = isinstance(layer, keras.Model) and hasattr(layer, "operations")
    return is_functional or isinstance(layer, keras.Sequential)


def call(layer, *args, **kwargs):
    """Calls a layer as the one before it was, which may have taken more arguments."""
    if isinstance(layer, keras.layers.Layer):
        parameters = inspect.signature(layer.call).parameters
        if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
            kwargs = {n: v for n, v in kwargs.items() if n in parameters}
    return layer(*args, **kwargs)


def inputs_like(model):
    """New inputs, which would otherwise have other names."""

    def like(tensor):
        layer = source(tensor)
        return type(layer).from_config(layer.get_config()).output

    return keras.tree.map_structure(like, model.input)


def walk(layer, path="", seen=None):
    """Path and layer of every layer inside, itself included, outer first."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield path, layer
    for child in children(layer):
        yield from walk(child, f"{path}/{child.name}" if path else child.name, seen)


def remake(layer, path):
    """A layer from the configuration of another.

    Raises:
        ValueError: Keras cannot make it; `path` says which.
    """
    try:
        if isinstance(layer, keras.layers.Lambda):
            return lambdas.again(layer, layer.get_config())
        new = type(layer).from_config(_without_variables(layer.get_config()))
        # The configuration of a layer without `get_config` may lack it.
        new.name = layer.name
        return new
    except (KeyError, NotImplementedError, TypeError, ValueError) as error:
        what = "hold layers that Keras can make again from their `get_config`: "
        what += "registered, if they are not Keras's own, and with a constructor that "
        what += "takes all of it, as `name`, `trainable` and `dtype` by `**kwargs`"
        received = f"{path}, of class {type(layer).__name__}: {one_line(error)}"
        raise fault("Argument `model`", what, received) from error


def _without_variables(config):
    """Numbers in place of variables, which two layers would share."""
    numpy = keras.ops.convert_to_numpy
    return {
        key: numpy(value) if isinstance(value, keras.Variable) else value
        for key, value in config.items()
    }


def has_own(model, method):
    """Whether the class of a graph defines `method` in place of Keras."""
    (of_keras, *_) = (
        c for c in type(model).__mro__ if c.__module__.startswith("keras.")
    )
    return getattr(type(model), method) is not getattr(of_keras, method)


def beside(graph):
    """By their id, layers that a graph has as attributes and does not call."""
    held, called = (
        {id(layer): layer for child in layers for _, layer in walk(child)}
        for layers in (children(graph), graph.layers)
    )
    return {i: held[i] for i in held.keys() - called.keys()}


def clone_graph(model, path, clone):
    """A copy of a graph, in which `clone` makes each layer; a `keras.Model` or
    `Sequential` where the class has a constructor of its own.

    Raises:
        ValueError: The graph does not say what such a model computes; `path` says
            which.
    """
    if has_own(model, "__init__"):
        if has_own(model, "call"):
            raise ValueError(
                "Argument `model` must be a network whose functional models have the "
                "constructor or the call of keras.Model. Received: "
                f"{path}, of class {type(model).__name__}"
            )
        if isinstance(model, keras.Sequential):
            (first, *_) = children(model)
            inputs = [remake(first, path)] * isinstance(first, keras.layers.InputLayer)
            layers = [*inputs, *map(clone, model.layers)]
            return keras.Sequential(layers, name=model.name)
        outputs = keras_private.output_structure(model)
        model = keras.Model(model.input, outputs, name=model.name)
    graph = {}
    if not isinstance(model, keras.Sequential):
        graph = {"input_tensors": inputs_like(model), "call_function": call}
    # Keras would compile the copy, with losses that it may not find by name.
    compiled, model.compiled = model.compiled, False
    try:
        return keras.models.clone_model(model, clone_function=clone, **graph)
    finally:
        model.compiled = compiled


def build_as(new, old):
    with warnings.catch_warnings():
        # That it cannot be built: what is checked later says so.
        warnings.simplefilter("ignore")
        new.build_from_config(old.get_build_config() or {})
    # As Keras does when it loads a file.
    new.built = True


def attributes(layer):
    """Place and layer of every layer that is an attribute, or in a list, a tuple or a
    dictionary that is one."""

    def search(place, value):
        if isinstance(value, keras.layers.Layer):
            yield place, value
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from search((*place, key), item)
        elif isinstance(value, list | tuple):
            for i, item in enumerate(value):
                yield from search((*place, i), item)

    # On torch a layer is a module, which keeps those inside it by themselves.
    values = {**vars(layer), **vars(layer).get("_modules", {})}
    for name, value in values.items():
        if name not in BASE and not name.startswith(("_self_", "_tracked")):
            yield from search((name,), value)


def parts(layer):
    """From place to layer, of those inside: of a graph its layers by number, of
    another its `attributes`."""
    if is_graph(layer):
        return {("layers", i): child for i, child in enumerate(layer.layers)}
    return dict(attributes(layer))


def parts_below(layer, seen=frozenset()):
    """From place to layer, of all `parts` and of those inside them."""
    below = {}
    for place, child in parts(layer).items():
        if id(child) not in seen:
            below[place] = child
            inner = parts_below(child, seen | {id(layer), id(child)})
            below |= {(*place, *last): part for last, part in inner.items()}
    return below


def put(layer, place, new):
    """Puts `new` where `attributes` found another."""
    name, *path = place
    value = old = getattr(layer, name)
    for key in path:
        old = old[key]
    tracker(layer).unlock()
    # Also where it is the same one: the order is that in which they are put.
    tracker(layer).untrack(old)
    changed = _with(value, path, new) if path else new
    if changed is value and path:
        tracker(layer).track(new)
    else:
        setattr(layer, name, changed)


def _with(value, path, new):
    """A collection with `new` in a place of it; of a tuple another one."""
    key, *rest = path
    inner = _with(value[key], rest, new) if rest else new
    if isinstance(value, tuple):
        items = [*value[:key], inner, *value[key + 1 :]]
        # TensorFlow wraps what is set, so that `type` is not what it was.
        return value.__class__(*items) if hasattr(value, "_fields") else tuple(items)
    if not rest or inner is not value[key]:
        value[key] = inner
    return value


def exchange(layer, others):
    """`layer` with others in the place of those inside it, by their id; a copy of each
    graph that holds such a one, which is noted in `others`."""
    if id(layer) in others:
        return others[id(layer)]
    others[id(layer)] = layer
    inner = parts(layer)
    new = {place: exchange(child, others) for place, child in inner.items()}
    if any(new[place] is not child for place, child in inner.items()):
        if is_graph(layer):
            copy = clone_graph(layer, layer.name, lambda x: exchange(x, others))
            others[id(layer)] = copy
        else:
            for place, child in new.items():
                put(layer, place, child)
    return others[id(layer)]


def copy_state(old, new, path):
    """Copies the variables and assets of a layer, without those of inner layers, and
    returns the number of variables.

    Raises:
        ValueError: Variables of `new` have other shapes; `path` says where.
    """
    sources, targets = own_variables(old), own_variables(new)
    by_name = {v.name: v for v in targets}
    if len(by_name) == len(targets) and {v.name for v in sources} == by_name.keys():
        # Quantization adds weights in an order of its own.
        targets = [by_name[v.name] for v in sources]
    before, after = ([tuple(v.shape) for v in side] for side in (sources, targets))
    what = "hold layers that can be built again as they were"
    received = f"{path}, of class {type(old).__name__}, with weights {before}, and "
    received += f"{after} when built again"
    require(before == after, "Argument `model`", what, received)
    # What a layer has beside its variables it computes when it loads them.
    store = {}
    old.save_own_variables(store)
    new.load_own_variables(store)
    # And what it does not save, such as the state of random numbers.
    for target, value in zip(targets, sources, strict=True):
        copy_value(target, value)
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)
    return len(sources)
