"""Which call of which layer a node of a graph belongs to."""

import collections
import contextlib

from keras_en.layers.recording import replaced_calls


def call_of(name, layers):
    """The call of a layer that a node belongs to.

    Args:
        name: Of a node: `scope/layer/operation`, where a scope that was used before
            has a number at its end.
        layers: Names of layers.

    Returns:
        The layer's name and the scope of the call, `scope/layer`, of the innermost if
        there are several; `None` if there is none.
    """
    parts = name.split("/")[:-1]
    for depth in reversed(range(len(parts))):
        layer, _ = numbered(parts[depth], layers)
        if layer in layers:
            return layer, "/".join(parts[: depth + 1])
    return None


def numbered(part, scopes):
    """A scope, and the number that it has because it was used before."""
    stem, _, number = part.rpartition("_")
    if part not in scopes and stem in scopes and number.isdecimal():
        return stem, int(number)
    return part, 0


def nodes_of_calls(names, layers):
    """How many nodes each call of a layer has.

    Args:
        names: Names of nodes, see `call_of`.
        layers: Names of layers.

    Returns:
        Dictionary from the layer's name and the scope of the call to the number.
    """
    calls = collections.Counter(call_of(name, layers) for name in names)
    del calls[None]
    return dict(calls)


@contextlib.contextmanager
def scopes(layers):
    """Notes in which name scope of a TensorFlow graph each layer is called.

    The scope's name alone does not tell: "norm_1" is the second call of "norm" or the
    first of "norm_1".

    Args:
        layers: List of layers.

    Yields:
        Dictionary from name scope to the layer that was called in it.
    """
    import tensorflow as tf

    layers_of_scopes = {}

    def noting(layer, original):
        def call(*args, **kwargs):
            layers_of_scopes[tf.compat.v1.get_default_graph().get_name_scope()] = layer
            return original(*args, **kwargs)

        return call

    with replaced_calls((layer, noting(layer, layer.call)) for layer in layers):
        yield layers_of_scopes
