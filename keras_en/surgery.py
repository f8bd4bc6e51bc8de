"""Another normalization in a network that exists."""

import inspect
import warnings
from typing import NamedTuple

import keras

from keras_en import transplant
from keras_en.arguments import check
from keras_en.models import norms

MADE = "which no .keras file keeps: it is made by the code of"


class Report(NamedTuple):
    """What became of the layers of a network; keys are paths of names.

    - `replaced`: from each normalization that was replaced, to what, and what of it
      could not be carried over.
    - `copied`: the layers whose weights were copied, and their number.
    - `skipped`: from each normalization that was left, to the reason.
    """

    replaced: dict
    copied: dict
    skipped: dict

    def __str__(self):
        lines = [
            f"{len(self.replaced)} layers replaced, {len(self.copied)} copied, "
            f"{len(self.skipped)} normalizations left"
        ]
        for title in ("replaced", "skipped"):
            found = getattr(self, title)
            lines += [f"  {title} {path}: {text}" for path, text in found.items()]
        return "\n".join(lines)


def replace_normalization(
    model,
    to="en",
    select=None,
    initial_ratios=None,
    return_report=False,
    **norm_kwargs,
):
    """A copy of `model` with another normalization, which starts close to it.

    Every `BatchNormalization`, and every other layer of `keras_en.models.norms`,
    becomes a layer `to` of the same name, with its epsilon, momentum, axis, gamma,
    beta, moving statistics, regularizers, constraints, dtype policy and trainable
    flag. All other weights are copied. `model` is left as it was.

    - Batch to Exemplar Normalization: every row of gamma is the old gamma; beta is
      the old one in the row of "batch" and 0 in the others, since Eq. 3 adds all of
      them. With `initial_ratios={"batch": 1.0}` the new network is the old one; with
      the default, 0.9, it starts close to it.
    - From Exemplar Normalization gamma is the mean over rows that the ratios weight,
      beta the sum of rows; its ratios are those of its last bias, which no sample has
      exactly. From Switchable Normalization ratios are the mean of its two.
    - To a layer of one normalizer ratios are dropped.
    - Moving statistics that the old layer had not start anew: see `recalibrate`.
    - A layer, or a model that is a subclass, whose code makes its normalizations makes
      the old ones again when it is loaded from a `.keras` file: save weights, and load
      them into `replace_normalization` of a new one. The report names these layers.

    Args:
        model: Built `keras.Model`: functional, `Sequential`, nested, or a subclass
            whose `get_config` gives the arguments of its constructor. Layers that
            hold layers are searched too.
        to: See `keras_en.models.norms.normalization`.
        select: `None` for all; or names, or paths (`"block/bn"`), of the layers to
            replace; or a function from a layer to whether it is replaced.
        initial_ratios: Ratios that a mixture starts with, see `ExemplarNormalization`.
            `None`: those of the old layer, if it mixes the same normalizers; otherwise
            0.9 for the normalizer that it is, such as `{"batch": 0.9}`, if that is in
            the new pool.
        return_report: If `True`, return `(model, report)`.
        **norm_kwargs: Arguments of every new layer.

    Returns:
        A new `keras.Model`, and its `Report` if wanted. It is compiled as `model` was.

    Raises:
        ValueError, TypeError: `model` is not built or cannot be copied; `select` names
            what is not there, or nothing is left to replace; a selected layer cannot
            be replaced: it is a subclass of unknown behaviour, uses `renorm`, or the
            new layer refuses its shape or arguments.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "Argument `model` must be a keras.Model that is built. "
            f"Received: model={model!r}"
        )
    if isinstance(to, str):
        check(to in norms.NAMES, "to", f"one of {norms.NAMES}, or a callable", to)
    surgery = _Surgery(model, to, select, initial_ratios, norm_kwargs)
    new = surgery.run()
    return (new, surgery.report) if return_report else new


class _Surgery:
    def __init__(self, model, to, select, initial_ratios, norm_kwargs):
        self.model, self.to = model, to
        self.initial_ratios, self.norm_kwargs = initial_ratios, norm_kwargs
        self.report = Report({}, {}, {})
        self.clones = {}  # by the id of the old layer
        self.pairs = []  # (path, old, new) of what is not replaced, outer first
        self.paths = dict(_normalizations(model))
        self.selected = {id(layer) for layer in self._select(select)}

    def _select(self, select):
        reached = list(self.paths.values())
        if select is None:
            chosen = [
                x for x in reached if not transplant.alike(x, self.to, self.norm_kwargs)
            ]
        elif callable(select):
            chosen = [x for x in reached if select(x)]
        else:
            names = [select] if isinstance(select, str) else list(select)
            known = {path: layer for path, layer in self.paths.items()}
            known.update({layer.name: layer for layer in reached})
            absent = [name for name in names if name not in known]
            check(
                not absent,
                "select",
                f"None, a function, or names of normalizations: {list(self.paths)}",
                absent,
            )
            chosen = [known[name] for name in names]
        check(
            chosen,
            "model",
            f"a network with normalizations to replace by {self.to!r}",
            sorted({type(layer).__name__ for layer in reached}),
            "normalizations",
        )
        for path, layer in self.paths.items():
            if not any(layer is other for other in chosen):
                reason = "not selected"
                if select is None:
                    reason = f"is {type(layer).__name__} already"
                self.report.skipped[path] = reason
        return chosen

    def run(self):
        new = self._clone(self.model, "")
        left = [p for p, x in self.paths.items() if id(x) in self.selected]
        left = [path for path in left if path not in self.report.replaced]
        check(
            not left,
            "model",
            "a network whose normalizations are attributes of their layers, or in "
            "lists or dictionaries of them",
            left,
            "not_replaced",
        )
        for path, old, clone in self.pairs:
            self._copy(path, old, clone)
        # From outside in: that of a network sets those of its layers.
        for _, old, clone in self.pairs:
            if isinstance(old, keras.layers.Layer):
                clone.trainable = old.trainable
        for path, layer in self.paths.items():
            if path in self.report.replaced:
                self.clones[id(layer)].trainable = layer.trainable
        return new

    def _clone(self, layer, path):
        if id(layer) in self.clones:
            return self.clones[id(layer)]
        if id(layer) in self.selected:
            new, lost = transplant.replacement(
                layer, path, self.to, self.initial_ratios, self.norm_kwargs
            )
            kind = f"{type(layer).__name__} -> {type(new).__name__}"
            self.report.replaced[path] = ", ".join([kind, *lost])
        else:
            place = len(self.pairs)
            if _is_graph(layer):
                sequential = isinstance(layer, keras.Sequential)
                new = keras.models.clone_model(
                    layer,
                    input_tensors=None if sequential else _inputs(layer),
                    clone_function=lambda x: self._clone(x, _join(path, x.name)),
                    call_function=None if sequential else _call,
                )
                check(
                    type(new) is type(layer),
                    "model",
                    "a network whose functional models have the constructor of "
                    "keras.Model, (inputs, outputs, name)",
                    f"{layer.name}, of class {type(layer).__name__}",
                    "part",
                )
            else:
                new = self._copy_of(layer, path)
            self.pairs.insert(place, (path, layer, new))
        self.clones[id(layer)] = new
        return new

    def _copy_of(self, layer, path):
        """A copy of a layer that is no graph of layers, those inside it replaced."""
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        try:
            new = type(layer).from_config(layer.get_config())
        except (NotImplementedError, TypeError) as error:
            raise ValueError(
                "Argument `model` must hold layers whose `get_config` gives the "
                f"arguments of their constructors. Received: {path or layer.name}, of "
                f"class {type(layer).__name__}: {str(error).splitlines()[0]}"
            ) from error
        held = list(_attributes(layer))
        if held and not list(_attributes(new)):
            # They are made when it is built.
            new.build_from_config(layer.get_build_config())
        there = dict(_attributes(new))
        inside = []
        for place, child in held:
            if place not in there:
                continue
            where = _join(path, child.name)
            _put(new, place, self._clone(child, where))
            if where in self.report.replaced:
                inside.append((where, place))
        if inside:
            again = dict(_attributes(type(layer).from_config(new.get_config())))
            for where, place in inside:
                if type(again.get(place)) is not type(dict(_attributes(new))[place]):
                    self.report.replaced[where] += f", {MADE} {type(layer).__name__}"
        if isinstance(layer, keras.Model) or not new.built:
            with warnings.catch_warnings():
                # That it cannot be built: `_copy` says so.
                warnings.simplefilter("ignore")
                new.build_from_config(layer.get_build_config() or {})
            # As Keras does when it loads a file.
            new.built = True
        return new

    def _copy(self, path, old, new):
        mine, yours = _own_variables(old), _own_variables(new)
        shapes = [[tuple(v.shape) for v in side] for side in (mine, yours)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "Argument `model` must hold layers that can be built again as they "
                f"were. Received: {path or old.name}, of class {type(old).__name__}, "
                f"with weights {shapes[0]}, and {shapes[1]} when built again"
            )
        for variable, value in zip(yours, mine, strict=True):
            variable.assign(value)
        if mine:
            self.report.copied[path or old.name] = len(mine)


# What Keras itself keeps in a layer or a model.
_BASE = set(vars(keras.layers.Layer())) | set(vars(keras.Model()))


def _join(path, name):
    return f"{path}/{name}" if path else name


def _is_graph(layer):
    """Whether it is a `Sequential` or functional model, which `clone_model` copies."""
    if isinstance(layer, keras.Sequential):
        return True
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")


def _call(layer, *args, **kwargs):
    """Calls a layer as the one before it was, which may have known more arguments."""
    if isinstance(layer, keras.layers.Layer):
        known = inspect.signature(layer.call).parameters
        if all(p.kind is not p.VAR_KEYWORD for p in known.values()):
            kwargs = {n: v for n, v in kwargs.items() if n in known}
    return layer(*args, **kwargs)


def _inputs(model):
    """New inputs, which would otherwise have other names."""

    def again(tensor):
        layer = tensor._keras_history.operation
        return type(layer).from_config(layer.get_config()).output

    return keras.tree.map_structure(again, model.input)


def _normalizations(layer, path="", seen=None):
    """Path and layer of every normalization that is known, and of subclasses."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    if isinstance(layer, transplant.KNOWN):
        yield path, layer
        return
    for child in layer._layers if isinstance(layer, keras.layers.Layer) else ():
        yield from _normalizations(child, _join(path, child.name), seen)


def _attributes(layer):
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

    for name, value in list(vars(layer).items()):
        if name not in _BASE:
            yield from search((name,), value)


def _put(layer, place, new):
    """Puts `new` where `_attributes` found another."""
    *path, last = place
    holder = layer
    for i, key in enumerate(path):
        holder = getattr(holder, key) if i == 0 else holder[key]
    layer._tracker.unlock()
    old = getattr(holder, last) if not path else holder[last]
    if old is not new:
        layer._tracker.untrack(old)
        if path:
            holder[last] = new
            layer._tracker.track(new)
        else:
            setattr(holder, last, new)


def _own_variables(layer):
    """Those that belong to none of the layers inside it."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    inner = {id(v) for child in layer._layers for v in child.variables}
    return [v for v in layer.variables if id(v) not in inner]
