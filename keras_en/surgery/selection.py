"""Which normalizations of a network are replaced, and why the others are not."""

from typing import NamedTuple

from keras_en.arguments import check
from keras_en.surgery import layer_tree, transplant
from keras_en.text import unique


class Selection(NamedTuple):
    """The normalizations of a network.

    - `paths`: from the id of every layer of the network to its path.
    - `chosen`: those to replace, by their id.
    - `skipped`: from the path of each other normalization to the reason.
    """

    paths: dict
    chosen: dict
    skipped: dict


def choose(model, to, select, norm_kwargs):
    """The `Selection`; arguments and errors are those of `replace_normalization`."""
    paths, normalizations = {}, []
    for path, layer in layer_tree.walk(model):
        paths[id(layer)] = unique(path, paths.values(), "#", start=2)
        if isinstance(layer, transplant.NORMALIZATIONS):
            normalizations.append(layer)
    reached = [layer for layer in normalizations if layer.built]
    if select is None:
        chosen = [x for x in reached if not transplant.alike(x, to, norm_kwargs)]
    elif callable(select):
        chosen = [x for x in reached if select(x)]
    else:
        names = [select] if isinstance(select, str) else list(select)
        chosen = _with_names(reached, paths, names)
    allowed = f"a network with normalizations to replace by {to!r}"
    classes = sorted({type(layer).__name__ for layer in reached})
    check(chosen, "model", allowed, classes, "normalizations")
    by_id = {id(layer): layer for layer in chosen}
    left = [layer for layer in normalizations if id(layer) not in by_id]
    skipped = {paths[id(layer)]: _reason(layer, select) for layer in left}
    return Selection(paths, by_id, skipped)


def _with_names(layers, paths, names):
    """The layers whose name or path is among `names`."""
    called = [{layer.name, paths[id(layer)]} for layer in layers]
    absent = [name for name in names if name not in set().union(*called)]
    available = [paths[id(layer)] for layer in layers]
    allowed = f"None, a function, or names of normalizations: {available}"
    check(not absent, "select", allowed, absent)
    return [x for x, both in zip(layers, called, strict=True) if both & set(names)]


def _reason(layer, select):
    if not layer.built:
        return "never called"
    return f"is {type(layer).__name__} already" if select is None else "not selected"
