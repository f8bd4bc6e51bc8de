"""The private names of Keras that say how layers and graphs are put together.

Nothing else outside `training/keras_private.py` touches a private name of Keras.
"""

import contextlib
import operator

import keras

# Owner and name, and what it is used for; a test holds that each is there.
USES = {
    "Layer._flatten_layers": "the layers inside a model",
    "Layer._layers": "the layers directly inside a layer",
    "Layer._tracker": "putting another layer in the place of one",
    "KerasTensor._keras_history": "the layer that a tensor comes from",
    "Functional._nodes_by_depth": "the calls of the layers of a model",
    "Layer._losses": "the losses of each replica",
    "global_state.get_global_attribute": "the layer whose call is running",
    "Functional._outputs_struct": "the names of outputs in a dictionary",
}


def layers_of(layer):
    """Every layer inside, nested ones too, and itself, outer first."""
    return layer._flatten_layers()


def children(layer):
    """The layers directly inside a layer."""
    return layer._layers


def own_variables(layer):
    """Those that belong to none of the layers inside it."""
    inner = {id(v) for child in children(layer) for v in child.variables}
    return [v for v in layer.variables if id(v) not in inner]


def tracker(layer):
    """What notes the layers and variables that are set as attributes."""
    return layer._tracker


def source(tensor):
    """The layer or operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


def nodes(model):
    """Every call in a functional model, first those next to its inputs: the operation,
    its `args` and `kwargs`, and the tensors that go in and come out. Of another model
    nothing."""
    by_depth = getattr(model, "_nodes_by_depth", {})
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            yield node.operation, node.arguments, node.input_tensors, node.outputs


def output_structure(model):
    """The structure of tensors that a functional model returns, otherwise `None`."""
    return getattr(model, "_outputs_struct", None)


@contextlib.contextmanager
def own_tensors():
    """Inside, other replicas may call the layers of the model that is called here, as
    they do where TensorFlow runs eagerly; behind it, the tensors that its call has left
    in them are as before: losses of `add_loss`, attributes that are tensors, and lists,
    tuples and dictionaries."""
    from keras.src.backend.common import global_state

    context = global_state.get_global_attribute("current_call_ctx")
    layers = [] if context is None else layers_of(context.entry_layer)
    states = [_results(vars(layer)) for layer in layers]
    try:
        yield
    finally:
        for layer, before in zip(layers, states, strict=True):
            now = vars(layer)
            for name in _results(now).keys() & before.keys():
                if not _is_same(now[name], before[name]):
                    now[name] = _refilled(now[name], before[name])


def _results(attributes):
    """Those that are tensors or `None`, and copies of collections that hold nothing
    else than these and constants."""
    return {
        name: _copied(value)
        for name, value in attributes.items()
        if value is None or keras.ops.is_tensor(value) or _is_collection(value)
    }


def _is_collection(value):
    if isinstance(value, dict):
        # Keras's and TensorFlow's own have objects as keys.
        value = [*value.values()] if all(isinstance(k, str) for k in value) else None
    return isinstance(value, list | tuple) and all(
        one is None
        or isinstance(one, str | int | float)
        or keras.ops.is_tensor(one)
        or _is_collection(one)
        for one in value
    )


def _is_same(value, before):
    """Whether a call has changed nothing: what Keras has locked stays alone."""
    pair = [keras.tree.flatten(each) for each in (value, before)]
    return len(pair[0]) == len(pair[1]) and all(map(operator.is_, *pair))


def _copied(value):
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if type(value) is tuple:
        return tuple(map(_copied, value))
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _refilled(value, before):
    """What was there before, in the same list or dictionary, which may be one that
    Keras tracks."""
    if isinstance(value, list) and isinstance(before, list):
        value[:] = before
    elif isinstance(value, dict) and isinstance(before, dict):
        value.clear()
        value.update(before)
    else:
        return before
    return value
