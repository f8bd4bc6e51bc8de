"""Another normalization in a network that exists, in four steps: clone, build, copy,
check.

Clone: from the outside in every layer is made again from its configuration, a selected
normalization as another (`transplant.py`). Build: what was not built with the layer
that holds it. Copy: the variables of every layer that is no new normalization. Check:
every selected layer was replaced, every variable was copied or replaced.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_en.arguments import check, refused
from keras_en.keras_private import children, own_variables
from keras_en.models import norms
from keras_en.surgery import layer_tree, rebuilt, selection, transplant
from keras_en.surgery.report import Report
from keras_en.variables import check_finite


def replace_normalization(
    model: keras.Model,
    to: str | Callable[..., Any] = "en",
    select: str | list[str] | tuple[str, ...] | Callable[..., bool] | None = None,
    initial_ratios: Mapping[str, float] | None = None,
    return_report: bool = False,
    **norm_kwargs: Any,
) -> Any:
    """A copy of `model` with another normalization, which starts close to it.

    Every `BatchNormalization`, and every other layer of `keras_en.models.norms`,
    becomes a layer `to` of the same name, with its epsilon, momentum, axis, gamma,
    beta, moving statistics, regularizers, constraints, dtype policy and trainable
    flag. All other weights are copied. `model` is left as it was.

    >>> bn = keras.layers.BatchNormalization(name="bn")
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), bn])
    >>> new, report = replace_normalization(model, return_report=True)
    >>> print(report)
    1 layers replaced, 0 copied, 0 normalizations left
      replaced bn: BatchNormalization -> ExemplarNormalization

    - Batch to Exemplar Normalization: every row of gamma is the old gamma; beta is
      the old one in the row of "batch" and 0 in the others, since Eq. 3 adds all of
      them. With `initial_ratios={"batch": 1.0}` the new network is the old one; with
      the default, 0.9, it starts close to it.
    - From Exemplar Normalization gamma is the mean over rows that the ratios weight,
      beta the sum of rows; its ratios are those of its last bias, which no sample has
      exactly. From Switchable Normalization ratios are the mean of its two.
    - To a layer of one normalizer ratios are dropped.
    - Moving statistics that the old layer had not start anew: see `recalibrate`.
    - A layer, or a model that is a subclass, whose code makes its normalizations would
      make the old ones again when it is loaded from a `.keras` file. It becomes an
      instance of a subclass, of the same name, that saves the new ones in its
      configuration; loading needs `import keras_en`. Where its code makes them in a
      call only, no file keeps them, and the report says so: save weights, and load
      them into `replace_normalization` of a new one.
    - A functional model or `Sequential` whose class has a constructor of its own, which
      would make the old normalizations, becomes a `keras.Model` or `Sequential` of the
      same graph. What its class has beside that, such as a `train_step`, is not carried
      over; the report names these models.

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
        ValueError, TypeError: `model` is not built, holds NaN or cannot be copied;
            `select` names what is not there, or nothing is left to replace; a selected
            layer cannot be replaced: it is a subclass of unknown behaviour, or the new
            layer refuses its shape or arguments; `initial_ratios` is given where
            nothing is mixed.
    """
    valid = isinstance(model, keras.Model) and model.built
    check(valid, "model", "a keras.Model that is built", model)
    check_finite(model)
    norms.check_norm("to", to)
    if not (callable(select) or isinstance(select, str | list | tuple | None)):
        allowed = "None, a function, or names of normalizations"
        raise refused("select", allowed, f"select={select!r}", TypeError)
    reserved = ["axis", "dtype", "name", "trainable"]
    allowed = f"without {reserved}, which each new layer has from the old one"
    valid = norm_kwargs.keys().isdisjoint(reserved)
    check(valid, "norm_kwargs", allowed, sorted(norm_kwargs))
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
    """One replacement.

    - `selection`: which layers are replaced, and the paths of all.
    - `holders`: the ids of the layers that are replaced or hold such a one.
    - `clones`: from the id of each old layer to the new one.
    - `rest`: the ids of those whose new one its parent made.
    - `beside`: by their id, attributes of models that became plain ones.
    - `builds`: gives new layers back the `build` that cloning hides.
    """

    def __init__(self, model, to, select, initial_ratios, norm_kwargs):
        self.model = model
        self.arguments = to, initial_ratios, norm_kwargs
        self.selection = selection.choose(model, to, select, norm_kwargs)
        self.report = Report({}, {}, self.selection.skipped, {}, {})
        chosen = self.selection.chosen
        self.holders = {
            id(layer)
            for _, layer in layer_tree.walk(model)
            if any(id(child) in chosen for _, child in layer_tree.walk(layer))
        }
        self.clones, self.rest, self.beside = {}, set(), {}
        self.builds = contextlib.ExitStack()

    def run(self):
        with self.builds:
            new = self._clone(self.model)
            self._build()
        self._check_all_replaced()
        self._copy()
        self._check_all_copied(new)
        self._set_trainable()
        return new

    def _path(self, layer):
        return self.selection.paths.get(id(layer)) or layer.name

    def _pairs(self):
        """Old and new of every layer that was cloned, outer first."""
        for _, layer in layer_tree.walk(self.model):
            if id(layer) in self.clones:
                yield layer, self.clones[id(layer)]

    def _clone(self, layer):
        if id(layer) not in self.clones:
            if id(layer) in self.selection.chosen:
                new = self._replacement(layer)
            elif layer_tree.is_graph(layer):
                new = self._graph(layer)
            else:
                new = self._composite(layer)
            self.clones[id(layer)] = new
        return self.clones[id(layer)]

    def _graph(self, layer):
        path = self._path(layer)
        if layer_tree.has_own(layer, "__init__"):
            if id(layer) not in self.holders:
                with contextlib.suppress(ValueError):
                    new = layer_tree.remake(layer, path)
                    self._pair_rest(layer, new)
                    return new
            self.report.plain[path] = type(layer).__name__
            self.beside |= layer_tree.beside(layer)
        return layer_tree.clone_graph(layer, path, self._clone)

    def _pair_rest(self, old, new):
        """Notes a layer in which nothing is replaced, and those inside, as copies."""
        if id(old) not in self.clones:
            self.clones[id(old)] = new
            self.rest.add(id(old))
        if self.clones[id(old)] is new:
            inner = layer_tree.parts(new)
            for place, child in layer_tree.parts(old).items():
                if type(inner.get(place)) is type(child):
                    self._pair_rest(child, inner[place])

    def _replacement(self, layer):
        path = self.selection.paths[id(layer)]
        new, lost = transplant.replacement(layer, path, *self.arguments)
        self._hide_build(new)
        kind = f"{type(layer).__name__} -> {type(new).__name__}"
        self.report.replaced[path] = ", ".join([kind, *lost])
        return new

    def _composite(self, layer):
        """A copy of a layer that is no graph of layers, those inside it replaced."""
        new = layer_tree.remake(layer, self._path(layer))
        if isinstance(layer, keras.layers.Layer):
            self._replace_inside(layer, new)
            self._note_what_code_makes(layer, new)
        return new

    def _replace_inside(self, layer, new):
        inner = dict(layer_tree.attributes(layer))
        places = self._put_clones(new, inner)
        if len(places) < len(inner):
            # The others are made when it is built.
            layer_tree.build_as(new, layer)
            others = {p: child for p, child in inner.items() if p not in places}
            places |= self._put_clones(new, others)
        if isinstance(layer, keras.Model) and layer.built:
            layer_tree.build_as(new, layer)
        if inner and new.built:
            self._hide_build(new)

    def _put_clones(self, new, inner):
        """Puts the clone of every layer whose place `new` has into it, and returns
        these layers by their places."""
        existing = dict(layer_tree.attributes(new))
        places = {p: child for p, child in inner.items() if p in existing}
        for place, child in places.items():
            self._keep_if_alike(child, existing[place])
            layer_tree.put(new, place, self._clone(child))
        return places

    def _keep_if_alike(self, child, there):
        """Makes what the parent of a layer has made again its copy: it knows best how,
        and a configuration may not say all."""
        is_alike = type(there) is type(child) and there is not child
        chosen = id(child) in self.selection.chosen
        if is_alike and id(child) not in self.clones:
            if id(child) not in self.holders:
                self._pair_rest(child, there)
            elif not (chosen or layer_tree.is_graph(there)):
                self.clones[id(child)] = there
                self._replace_inside(child, there)

    def _note_what_code_makes(self, layer, new):
        """Those that `new` has not when it is made again, which its file notes."""
        path = self._path(layer)
        chosen = {}
        for place, child in layer_tree.parts_below(layer).items():
            if id(child) in self.selection.chosen and child not in chosen.values():
                chosen[place] = child
        if not chosen:
            return
        chosen = self._other_than_new(layer_tree.remake(new, path), chosen)
        if not chosen:
            return
        rebuilt.note(new, chosen)
        again = layer_tree.remake(new, path)
        if not chosen.keys() <= layer_tree.parts_below(again).keys():
            layer_tree.build_as(again, layer)
        for old in self._other_than_new(again, chosen).values():
            path = self.selection.paths[id(old)]
            self.report.rebuilt_by_code.setdefault(path, type(new).__name__)

    def _other_than_new(self, layer, chosen):
        """Those of `chosen`, old normalizations by their places, in whose place `layer`
        has none like the new one."""
        there, others = layer_tree.parts_below(layer), {}
        for place, old in chosen.items():
            again, new = there.get(place), self.clones.get(id(old))
            if type(again) is not type(new) or again.get_config() != new.get_config():
                others[place] = old
        return others

    def _hide_build(self, layer):
        """The `build` of what holds `layer`, which is built, would build it again."""
        self.builds.callback(setattr, layer, "build", layer.build)
        layer.build = lambda *args, **kwargs: None

    def _build(self):
        # One by one: a layer may make those inside it when it is built.
        for old, new in self._pairs():
            if id(old) in self.selection.chosen:
                continue
            if old.built and not new.built:
                layer_tree.build_as(new, old)
            if id(old) in self.rest:
                self._pair_rest(old, new)

    def _check_all_replaced(self):
        left = []
        for i, layer in self.selection.chosen.items():
            if i not in self.clones and i in self.beside:
                self.report.skipped[self._path(layer)] = "in no graph of the new model"
            elif i not in self.clones:
                left.append(self._path(layer))
        allowed = "a network whose normalizations are attributes of their layers, or "
        allowed += "in lists, tuples or dictionaries of them"
        check(not left, "model", allowed, left, "not_replaced")

    def _copy(self):
        for old, new in self._pairs():
            if id(old) not in self.selection.chosen:
                path = self._path(old)
                count = layer_tree.copy_state(old, new, path)
                if count:
                    self.report.copied[path] = count

    def _check_all_copied(self, new):
        """Of both networks every variable belongs to a layer with a counterpart."""
        for position, model in enumerate((self.model, new)):
            ids = set()
            for pair in self._pairs():
                chosen = id(pair[0]) in self.selection.chosen
                layer = pair[position]
                own = layer.variables if chosen else own_variables(layer)
                ids |= {id(v) for v in own}
            gone = [x for i, x in self.beside.items() if i not in self.clones]
            ids |= {id(v) for x in gone for v in own_variables(x)}
            missed = [v.path for v in model.variables if id(v) not in ids]
            allowed = "a network whose layers are attributes of others, or in lists, "
            allowed += "tuples or dictionaries of them"
            check(not missed, "model", allowed, missed, "not_copied")

    def _set_trainable(self):
        # Layers that hold others set theirs, too, and therefore come first.
        for old, new in sorted(self._pairs(), key=lambda pair: not children(pair[0])):
            new.trainable = old.trainable
