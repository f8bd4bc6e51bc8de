"""A recipe: everything that settles a training, read from a small YAML file."""

import dataclasses
import inspect
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_en.layers import ExemplarNormalization, SwitchableNormalization
from keras_en.training.recipes import keys, rules, yaml_files
from keras_en.training.recipes.rules import key

FOLDER = Path(__file__).parent
# Arguments of a builder, and of the layer, that other keys of a recipe settle.
_OF_OTHERS = (
    *("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes"),
    *("classifier_activation", "name", "norm", "norm_kwargs"),
)
_EXEMPLAR = (
    *("normalizers", "groups", "reduction", "expansion", "ratio_head"),
    *("ratio_activation", "ratio_initializer", "share_affine", "initial_ratios"),
)
_SWITCHABLE = ("normalizers", "groups", "initial_ratios")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that settles a training, but for the seed.

    >>> recipe = load("cifar10_resnet20", ["norm.name=bn", "data.batch_size=64"])
    >>> recipe.network.name, recipe.norm.name, recipe.data.batch_size
    ('CifarResNet', 'bn', 64)
    """

    name: str = key(rules.text())
    about: keys.About = rules.part(keys.About)
    network: keys.Network = rules.part(keys.Network, required=True)
    norm: keys.Norm = rules.part(keys.Norm)
    data: keys.DataPart = rules.part(keys.DataPart, required=True)
    optimizer: keys.Optimizer = rules.part(keys.Optimizer)
    schedule: keys.Schedule = rules.part(keys.Schedule)
    loss: keys.Loss = rules.part(keys.Loss)
    statistics: keys.Statistics = rules.part(keys.Statistics)
    seeds: tuple[int, ...] = key(
        rules.listed(rules.integer(0, rules.LAST_SEED), "seeds"), (0,)
    )

    def lasting(self, epochs: int) -> "Recipe":
        """The same for another number of epochs: warm-up and milestones move along."""
        share = epochs / self.schedule.duration
        schedule = dataclasses.replace(
            self.schedule,
            duration=float(epochs),
            unit="epochs",
            warmup=self.schedule.warmup * share,
            milestones=tuple(m * share for m in self.schedule.milestones),
        )
        return dataclasses.replace(self, schedule=schedule)

    @property
    def training_parts(self) -> dict[str, dict[str, Any]]:
        """Its keys by part, without its name, what it says about itself, and its seeds:
        recipes that have the same train the same."""
        parts = dataclasses.asdict(self)
        return {k: v for k, v in parts.items() if k not in ("name", "about", "seeds")}

    def to_yaml(self) -> str:
        """The text of a file that `load` makes the same recipe of."""
        return yaml_files.dump(dataclasses.asdict(self))


def names() -> list[str]:
    """Those of the recipes that the package holds."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(recipe: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its name, or from a YAML file, with some of its keys changed.

    Args:
        recipe: One of `names()`, or the path of a file. A file with the key `base`,
            a name or a path from where the file is, has the keys of that one but
            for its own.
        overrides: Texts "key=value", with dotted keys: "norm.name=bn",
            "schedule.duration=30". Values are YAML; a mapping replaces one.

    Raises:
        ValueError: There is no such recipe or key, a value is not allowed, or values
            contradict each other.
    """
    where, values = _values(recipe, ())
    for override in overrides:
        _change(values, override, where)
    values.setdefault("name", Path(recipe).stem)
    result = rules.read(Recipe, values, where)
    _check_network(result.network, where)
    _check_arguments(result.norm, where)
    _check_optimizer(result.optimizer, where)
    _check_schedule(result.schedule, where)
    return result


def _values(recipe, above):
    """What a file, and those that it is based on, hold; and how errors call it."""
    path = Path(recipe)
    if str(recipe) in names():
        path = FOLDER / f"{recipe}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        near = rules.nearest(str(recipe), names())
        hint = f"the nearest is {near}" if near else f"there are {', '.join(names())}"
        allowed = f"a name or a .yaml file; {hint}"
        raise rules.wrong("A recipe", "", allowed, str(recipe))
    where = f"Recipe {path.stem if path.parent == FOLDER else path}"
    other = path.resolve() not in above
    rules.require(other, where, "base", "another recipe, not itself", str(recipe))
    values = yaml_files.read(path, where)
    if "base" not in values:
        return where, values
    base = values.pop("base")
    if not isinstance(base, str):
        raise rules.wrong(where, "base", "a recipe's name or file", base)
    if base not in names():
        base = path.parent / base
    _, inherited = _values(base, (*above, path.resolve()))
    inherited.pop("name", None)
    return where, _merged(inherited, values)


def _merged(base, own):
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    return base | {name: _merged(base.get(name), own[name]) for name in own}


def _change(values, override, where):
    name, sign, text = override.partition("=")
    if not sign or not name.strip():
        raise rules.wrong("An override", "", "key=value, as norm.name=bn", override)
    *parts, last = name.strip().split(".")
    for part in parts:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise rules.unknown(where, name.strip(), rules.every_key(Recipe), text)
        values = inner
    values[last] = yaml_files.parse(text, f"{where}: key `{name.strip()}`")


def _check_names(where, part, values, allowed):
    others = [f"{part}.{name}" for name in allowed]
    for name, value in values.items():
        if name not in allowed:
            raise rules.unknown(where, f"{part}.{name}", others, value)


def _check_network(network, where):
    signature = inspect.signature(keys.BUILDERS[network.name])
    allowed = [name for name in signature.parameters if name not in _OF_OTHERS]
    owner = f"{where}, {network.name}"
    _check_names(owner, "network.arguments", network.arguments, allowed)
    for name in allowed:
        needed = signature.parameters[name].default is inspect.Parameter.empty
        if needed and name not in network.arguments:
            missing = f"{where}: key `network.arguments.{name}` is missing"
            raise ValueError(f"{missing}. Received: {network.name} without")


def _check_arguments(norm, where):
    for part, values, allowed, layer in (
        ("norm.exemplar", norm.exemplar, _EXEMPLAR, ExemplarNormalization),
        ("norm.switchable", norm.switchable, _SWITCHABLE, SwitchableNormalization),
    ):
        _check_names(where, part, values, allowed)
        try:
            layer(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: key `{part}`: {error}") from None


def _check_optimizer(part, where):
    valid = not part.nesterov or (part.name == "sgd" and part.momentum)
    allowed = "false without SGD's momentum"
    rules.require(valid, where, "optimizer.nesterov", allowed, part.nesterov)
    if part.decay == "decoupled":
        default = keys.Optimizer()
        own = ("ratio_weight_decay", "ratio_lr_multiplier", "ratio_clipnorm")
        for name in ("exclude", *own):
            value, usual = getattr(part, name), getattr(default, name)
            allowed = 'absent with optimizer.decay: "decoupled"'
            rules.require(value == usual, where, f"optimizer.{name}", allowed, value)


def _check_schedule(part, where):
    stones = part.milestones
    valid = bool(stones) == (part.name == "steps")
    allowed = "a list of numbers with schedule.name: steps, and absent otherwise"
    rules.require(valid, where, "schedule.milestones", allowed, list(stones))
    valid = all(a < b for a, b in itertools.pairwise([*stones, part.duration]))
    allowed = f"rising numbers below the duration, {part.duration:g}"
    rules.require(valid, where, "schedule.milestones", allowed, list(stones))
    valid = part.warmup < part.duration
    allowed = f"below the duration, {part.duration:g}"
    rules.require(valid, where, "schedule.warmup", allowed, part.warmup)
