"""What layers compute while their model is called."""

import contextlib
import inspect


def takes_ratios(layer):
    """Whether the layer's `call` can return its ratios, one for each of its pool."""
    parameters = inspect.signature(layer.call).parameters
    return "return_ratios" in parameters and hasattr(layer, "pool")


@contextlib.contextmanager
def recording(layers):
    """Notes the ratios of every call of some layers.

    A model made from the inputs of each layer would leave a second node on the user's
    layers, and could not be made of a subclassed model.

    Args:
        layers: Dictionary from any key to a layer whose `call` knows `return_ratios`.

    Yields:
        Dictionary from these keys to a list, to which each call adds its ratios.
    """
    recorded = {key: [] for key in layers}

    def noting(original, calls):
        def call(*args, **kwargs):
            outputs, ratios = original(*args, **{**kwargs, "return_ratios": True})
            calls.append(ratios)
            return (outputs, ratios) if kwargs.get("return_ratios") else outputs

        return call

    with replaced_calls(
        (layer, noting(layer.call, recorded[key])) for key, layer in layers.items()
    ):
        yield recorded


@contextlib.contextmanager
def replaced_calls(calls):
    """Gives layers another `call` each, pairs of both, for a while."""
    before = []
    try:
        for layer, call in calls:
            # One of its own, if someone has set it.
            before.append((layer, layer.__dict__.get("call")))
            layer.call = call
        yield
    finally:
        for layer, call in reversed(before):
            layer.__dict__.pop("call", None)
            if call is not None:
                layer.call = call
