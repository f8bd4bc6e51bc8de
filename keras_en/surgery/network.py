"""Another normalization in a network that exists."""

import contextlib
import tempfile
from typing import NamedTuple

import keras

from keras_en.arguments import check
from keras_en.keras_private import children
from keras_en.models import norms
from keras_en.surgery import layer_tree, transplant
from keras_en.text import one_line, unique


class Report(NamedTuple):
    """What became of the layers of a network; keys are paths of names.

    - `replaced`: from each normalization that was replaced, to what, and what of it
      could not be carried over.
    - `copied`: the layers whose weights were copied, and their number.
    - `skipped`: from each normalization that was left, to the reason.
    - `rebuilt_by_code`: from each new normalization that no `.keras` file keeps, to
      the class name of the layer or model whose code makes the old one again.
    """

    replaced: dict[str, str]
    copied: dict[str, int]
    skipped: dict[str, str]
    rebuilt_by_code: dict[str, str]

    def __str__(self) -> str:
        lines = [
            f"{len(self.replaced)} layers replaced, {len(self.copied)} copied, "
            f"{len(self.skipped)} normalizations left"
        ]
        for path, text in self.replaced.items():
            if path in self.rebuilt_by_code:
                text += ", which no .keras file keeps: it is made by the code of "
                text += self.rebuilt_by_code[path]
            lines.append(f"  replaced {path}: {text}")
        lines += [f"  skipped {path}: {text}" for path, text in self.skipped.items()]
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
        to: See `keras_en.models.norms.normalization`. A function is given axis and name
            only, and what it returns the weights for which it has room.
        select: `None` for all; or names, or paths (`"block/bn"`), of the layers to
            replace, all that have one of them; or a function from a layer to whether it
            is replaced.
        initial_ratios: Ratios that a mixture starts with, see `ExemplarNormalization`.
            `None`: those of the old layer, if it mixes the same normalizers; otherwise
            0.9 for the normalizer that it is, such as `{"batch": 0.9}`, if that is in
            the new pool.
        return_report: If `True`, return `(model, report)`.
        **norm_kwargs: Arguments of every new layer.

    Returns:
        A new `keras.Model`, not compiled, in the strategy of `model`; and its `Report`
        if wanted.

    Raises:
        ValueError, TypeError: `model` is not built or cannot be copied; `select` names
            what is not there, or nothing is left to replace; a selected layer cannot
            be replaced: it is a subclass of unknown behaviour, uses `renorm`, or the
            new layer refuses its shape or arguments; `initial_ratios` is given where
            nothing is mixed.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "Argument `model` must be a keras.Model that is built. "
            f"Received: model={model!r}"
        )
    known = callable(to) or (isinstance(to, str) and to in norms.NAMES)
    check(known, "to", f"one of {norms.NAMES}, a layer class or a callable", to)
    if not (
        select is None or callable(select) or isinstance(select, str | list | tuple)
    ):
        raise TypeError(
            "Argument `select` must be None, a function, or names of normalizations. "
            f"Received: select={select!r}"
        )
    taken = sorted({"name", "axis", "trainable", "dtype"} & set(norm_kwargs))
    check(not taken, "norm_kwargs", "what every layer has not of its own", taken)
    with _scope(model):
        surgery = _Surgery(model, to, select, initial_ratios, norm_kwargs)
        new = surgery.run()
    return (new, surgery.report) if return_report else new


def _scope(model):
    """That of the strategy which holds the model, but for one that is in scope."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


class _Surgery:
    def __init__(self, model, to, select, initial_ratios, norm_kwargs):
        self.model, self.to = model, to
        self.initial_ratios, self.norm_kwargs = initial_ratios, norm_kwargs
        self.report = Report({}, {}, {}, {})
        self.clones = {}  # by the id of the old layer
        self.pairs = []  # (old, new) of what is not replaced, outer first
        self.shadowed = []  # (layer, its `build`)
        self.paths = {}  # by the id of the layer
        self.norms = []
        for path, layer in layer_tree.walk(model):
            self.paths[id(layer)] = unique(path, self.paths.values(), "#", start=2)
            if isinstance(layer, transplant.KNOWN):
                self.norms.append(layer)
        self.selected = {id(layer) for layer in self._select(select)}

    def _select(self, select):
        reached = [layer for layer in self.norms if layer.built]
        if select is None:
            chosen = [
                x for x in reached if not transplant.alike(x, self.to, self.norm_kwargs)
            ]
        elif callable(select):
            chosen = [x for x in reached if select(x)]
        else:
            names = [select] if isinstance(select, str) else list(select)
            known = [(x.name, self.paths[id(x)]) for x in reached]
            absent = [n for n in names if not any(n in both for both in known)]
            check(
                not absent,
                "select",
                "None, a function, or names of normalizations: "
                f"{[path for _, path in known]}",
                absent,
            )
            chosen = [
                x
                for x, both in zip(reached, known, strict=True)
                if any(name in both for name in names)
            ]
        check(
            chosen,
            "model",
            f"a network with normalizations to replace by {self.to!r}",
            sorted({type(layer).__name__ for layer in reached}),
            "normalizations",
        )
        for layer in self.norms:
            if not any(layer is other for other in chosen):
                reason = "not selected"
                if not layer.built:
                    reason = "never called"
                elif select is None:
                    reason = f"is {type(layer).__name__} already"
                self.report.skipped[self.paths[id(layer)]] = reason
        return chosen

    def run(self):
        try:
            new = self._clone(self.model)
            for old, clone in self.pairs:
                layer = isinstance(old, keras.layers.Layer)
                if layer and old.built and not clone.built:
                    layer_tree.build_as(clone, old)
        finally:
            for layer, build in self.shadowed:
                layer.build = build
        left = [self.paths[i] for i in self.selected]
        left = [path for path in left if path not in self.report.replaced]
        check(
            not left,
            "model",
            "a network whose normalizations are attributes of their layers, or in "
            "lists or dictionaries of them",
            left,
            "not_replaced",
        )
        for old, clone in self.pairs:
            if isinstance(old, keras.layers.Layer):
                self._copy(old, clone)
        self._check_all_copied(new)
        # Those that hold layers set theirs, so that these come last.
        layers = [(x, y) for x, y in self.pairs if isinstance(x, keras.layers.Layer)]
        layers.sort(key=lambda pair: not children(pair[0]))
        layers += [(x, self.clones[id(x)]) for x in self.norms if id(x) in self.clones]
        for old, clone in layers:
            clone.trainable = old.trainable
        return new

    def _clone(self, layer):
        if id(layer) in self.clones:
            return self.clones[id(layer)]
        if id(layer) in self.selected:
            path = self.paths[id(layer)]
            new, lost = transplant.replacement(
                layer, path, self.to, self.initial_ratios, self.norm_kwargs
            )
            self._shadow(new)
            kind = f"{type(layer).__name__} -> {type(new).__name__}"
            self.report.replaced[path] = ", ".join([kind, *lost])
        else:
            place = len(self.pairs)
            new = (
                self._graph(layer)
                if layer_tree.is_graph(layer)
                else self._copy_of(layer)
            )
            self.pairs.insert(place, (layer, new))
        self.clones[id(layer)] = new
        return new

    def _graph(self, model):
        sequential = isinstance(model, keras.Sequential)
        (theirs, *_) = (
            c for c in type(model).__mro__ if c.__module__.startswith("keras.")
        )
        check(
            type(model).__init__ is theirs.__init__,
            "model",
            "a network whose functional models have the constructor of keras.Model, "
            "(inputs, outputs, name)",
            f"{self.paths[id(model)] or model.name}, of class {type(model).__name__}",
            "part",
        )
        # Keras would compile the copy, with losses that it may not find by name.
        compiled, model.compiled = model.compiled, False
        try:
            return keras.models.clone_model(
                model,
                input_tensors=None if sequential else layer_tree.inputs_like(model),
                clone_function=self._clone,
                call_function=None if sequential else layer_tree.call,
            )
        finally:
            model.compiled = compiled

    def _copy_of(self, layer):
        """A copy of a layer that is no graph of layers, those inside it replaced."""
        try:
            new = type(layer).from_config(layer.get_config())
        except (NotImplementedError, TypeError, ValueError) as error:
            where = self.paths.get(id(layer)) or layer.name
            raise ValueError(
                "Argument `model` must hold layers that Keras can make again from "
                "their `get_config`: registered, if they are not Keras's own. "
                f"Received: {where}, of class {type(layer).__name__}: "
                f"{one_line(error)}"
            ) from error
        if not isinstance(layer, keras.layers.Layer):
            return new
        held = list(layer_tree.attributes(layer))
        put = self._put_all(new, held)
        if len(put) < len(held):
            # The others are made when it is built.
            layer_tree.build_as(new, layer)
            put += self._put_all(new, [pair for pair in held if pair not in put])
        if isinstance(layer, keras.Model) and layer.built:
            layer_tree.build_as(new, layer)
        if held and new.built:
            self._shadow(new)
        self._say_what_no_file_keeps(layer, new, put)
        return new

    def _put_all(self, new, held):
        there = dict(layer_tree.attributes(new))
        put = [(place, child) for place, child in held if place in there]
        for place, child in put:
            layer_tree.put(new, place, self._clone(child))
        return put

    def _say_what_no_file_keeps(self, layer, new, put):
        inside = [(place, child) for place, child in put if id(child) in self.selected]
        if not inside:
            return
        again = dict(layer_tree.attributes(type(layer).from_config(new.get_config())))
        for place, child in inside:
            if type(again.get(place)) is not type(self.clones[id(child)]):
                self.report.rebuilt_by_code[self.paths[id(child)]] = type(
                    layer
                ).__name__

    def _shadow(self, layer):
        """Lets the `build` of what holds `layer`, which is built, build it again."""
        self.shadowed.append((layer, layer.build))
        layer.build = lambda *args, **kwargs: None

    def _copy(self, old, new):
        path = self.paths[id(old)] or old.name
        mine, yours = layer_tree.own_variables(old), layer_tree.own_variables(new)
        shapes = [[tuple(v.shape) for v in side] for side in (mine, yours)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "Argument `model` must hold layers that can be built again as they "
                f"were. Received: {path}, of class {type(old).__name__}, with weights "
                f"{shapes[0]}, and {shapes[1]} when built again"
            )
        # What a layer has beside its variables it computes when it loads them.
        store = {}
        old.save_own_variables(store)
        new.load_own_variables(store)
        # And what it does not save, such as the state of random numbers.
        for variable, value in zip(yours, mine, strict=True):
            variable.assign(value)
        if hasattr(old, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)
        if mine:
            self.report.copied[path] = len(mine)

    def _check_all_copied(self, new):
        """Every weight of the old network has gone somewhere, every new one was set."""
        for i, model in enumerate((self.model, new)):
            known = {
                id(v) for pair in self.pairs for v in layer_tree.own_variables(pair[i])
            }
            for layer in self.norms:
                if id(layer) in self.clones:
                    both = layer, self.clones[id(layer)]
                    known |= {id(v) for v in both[i].variables}
            missed = [v.path for v in model.variables if id(v) not in known]
            check(
                not missed,
                "model",
                "a network whose layers are attributes of others, or in lists or "
                "dictionaries of them",
                missed,
                "not_copied",
            )
