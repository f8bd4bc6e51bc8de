"""A recipe: everything that settles a training, read from a small YAML file."""

import copy
import dataclasses
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_en import models
from keras_en.layers import ExemplarNormalization
from keras_en.models import norms
from keras_en.training import optimizers, schedules
from keras_en.training.recipes import rules, yaml_files
from keras_en.training.recipes.rules import key

FOLDER = Path(__file__).parent
BUILDERS: dict[str, Callable[..., Any]] = {
    name: getattr(models, name) for name in models.__all__ if name != "summary_table"
}
# Arguments of a builder, and of the layer, that other keys of a recipe settle.
_OF_OTHERS = (
    *("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes"),
    *("classifier_activation", "name", "norm", "norm_kwargs"),
)
_EXEMPLAR = (
    *("normalizers", "groups", "reduction", "expansion", "ratio_head"),
    *("ratio_activation", "ratio_initializer", "share_affine", "initial_ratios"),
)
SOURCES = ("digits", "tfds:NAME", "folder:PATH", "list:FILE", "npz:PATH")


def _is_source(text):
    kind, colon, rest = text.partition(":")
    return text == "digits" or (kind in ("tfds", "folder", "list", "npz") and rest)


def _is_labels(text):
    kind, _, rest = text.partition(":")
    path, _, name = rest.rpartition(":")
    return kind == "npz" and path and name


@dataclasses.dataclass(frozen=True)
class About:
    """For readers. `paper`: the paper's figure with the recipe's own normalization;
    `time` and `hardware`: of one training."""

    title: str = key(rules.text(), "")
    tables: tuple[int, ...] = key(rules.listed(rules.integer(1), "numbers"), ())
    paper: str | None = key(rules.optional(rules.text()), None)
    time: str | None = key(rules.optional(rules.text()), None)
    hardware: str | None = key(rules.optional(rules.text()), None)


@dataclasses.dataclass(frozen=True)
class Network:
    """`arguments`: of the builder; `dropout`: before the classifier; `initializer` of
    convolutions: "he_fan_out" as in the paper's sources, `None`: the builder's."""

    name: str = key(rules.one_of(tuple(BUILDERS)))
    arguments: dict[str, Any] = key(rules.mapping("arguments to values"), {})
    dropout: float = key(rules.number(0, 0.99), 0.0)
    initializer: str | None = key(rules.optional(rules.one_of(("he_fan_out",))), None)


@dataclasses.dataclass(frozen=True)
class Norm:
    """`exemplar`: arguments of `ExemplarNormalization`, for "en" alone; `epsilon`:
    `None`: the layer's."""

    name: str = key(rules.one_of(norms.NAMES), "en")
    epsilon: float | None = key(rules.optional(rules.number(0, 1, above=True)), None)
    synchronized: bool = key(rules.flag(), False)
    exemplar: dict[str, Any] = key(rules.mapping("arguments to values"), {})


@dataclasses.dataclass(frozen=True)
class DataPart:
    """`source`, `labels`, `image_size`: see `keras_en.training.data`; `train` and
    `evaluate`: steps of what happens to an image; `scales`: short sides of a test of
    several sizes; `limit_train`: the first so many training images."""

    source: str = key(rules.text(f"one of {', '.join(SOURCES)}", _is_source))
    labels: str | None = key(
        rules.optional(rules.text("npz:PATH:KEY", _is_labels)), None
    )
    image_size: int | None = key(rules.optional(rules.integer(1)), None)
    batch_size: int = key(rules.integer(1), 128)
    train: tuple[Any, ...] = key(rules.steps(), ())
    evaluate: tuple[Any, ...] = key(rules.steps(), ())
    scales: tuple[int, ...] = key(rules.listed(rules.integer(8), "short sides"), ())
    limit_train: int | None = key(rules.optional(rules.integer(1)), None)

    def where(self) -> dict[str, Any]:
        """`source`, `labels` and `image_size`, with the environment's variables in
        paths, such as $KERAS_EN_DATA, replaced.

        Raises:
            ValueError: One is not set.
        """
        result = {"image_size": self.image_size}
        for name in ("source", "labels"):
            value = getattr(self, name)
            result[name] = value and os.path.expanduser(os.path.expandvars(value))
            if "$" in (result[name] or ""):
                allowed = "a path whose environment variables are set"
                raise rules.wrong("The recipe", f"data.{name}", allowed, value)
        return result


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """See `keras_en.training.optimizers`. `decay`: whether the weight decay is "l2",
    as in the paper's sources, or "decoupled", Keras's own; `ema`: momentum of Keras's
    moving average of weights, which the training ends with."""

    name: str = key(rules.one_of(("sgd", "adam")), "sgd")
    learning_rate: float = key(rules.number(0, above=True), 0.1)
    momentum: float = key(rules.number(0, 1), 0.9)
    nesterov: bool = key(rules.flag(), False)
    decay: str = key(rules.one_of(("l2", "decoupled")), "l2")
    weight_decay: float = key(rules.number(0), 1e-4)
    exclude: tuple[str, ...] = key(
        rules.listed(
            rules.one_of(optimizers.KINDS),
            f"kinds out of {', '.join(optimizers.KINDS)}",
        ),
        (),
    )
    ratio_weight_decay: float | None = key(rules.optional(rules.number(0)), None)
    ratio_lr_multiplier: float = key(rules.number(0), 1.0)
    ratio_clipnorm: float | None = key(
        rules.optional(rules.number(0, above=True)), None
    )
    ema: float | None = key(rules.optional(rules.number(0, 1)), None)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """See `keras_en.training.schedules`; `duration`, `warmup` and `milestones` are in
    `unit`."""

    name: str = key(rules.one_of(schedules.NAMES), "cosine")
    duration: float = key(rules.number(0, above=True), 100.0)
    unit: str = key(rules.one_of(("epochs", "steps")), "epochs")
    warmup: float = key(rules.number(0), 0.0)
    milestones: tuple[float, ...] = key(
        rules.listed(rules.number(0, above=True), "numbers above 0"), ()
    )
    factor: float = key(rules.number(0, 1), 0.1)
    power: float = key(rules.number(0, above=True), 0.9)

    def steps(self, steps_per_epoch: int, duration: float | None = None) -> int:
        """Training steps of the whole schedule, or of so much of it."""
        value = self.duration if duration is None else duration
        unit = steps_per_epoch if self.unit == "epochs" else 1
        return max(1, round(value * unit)) if value else 0

    def epochs(self, steps_per_epoch: int) -> int:
        """Epochs until the schedule ends, the last one whole."""
        return -(-self.steps(steps_per_epoch) // steps_per_epoch)


@dataclasses.dataclass(frozen=True)
class Loss:
    """`balanced`: whether every class weighs the same; `auxiliary`: weight of the loss
    of a network's auxiliary output."""

    label_smoothing: float = key(rules.number(0, 0.99), 0.0)
    balanced: bool = key(rules.flag(), False)
    auxiliary: float = key(rules.number(0), 0.4)


def _momentum(value):
    return "auto" if value == "auto" else rules.number(0, 1).of(value)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """`momentum` of moving statistics, in Keras's sense; "auto": by the number of
    steps; `None`: the layer's. `recalibrate`: so many batches before evaluation; 0:
    none. `radius_end`: see `keras_en.training.RadiusSchedule`."""

    momentum: float | str | None = key(
        rules.optional(rules.Rule('a number from 0 to 1, or "auto"', _momentum)), 0.9
    )
    recalibrate: int = key(rules.integer(0), 0)
    radius_end: float = key(rules.number(0, 1, above=True), 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that settles a training, but for the seed.

    >>> recipe = load("cifar10_resnet20", ["norm.name=bn", "data.batch_size=64"])
    >>> recipe.network.name, recipe.norm.name, recipe.data.batch_size
    ('CifarResNet', 'bn', 64)
    """

    name: str = key(rules.text())
    about: About = rules.part(About)
    network: Network = rules.part(Network, required=True)
    norm: Norm = rules.part(Norm)
    data: DataPart = rules.part(DataPart, required=True)
    optimizer: Optimizer = rules.part(Optimizer)
    schedule: Schedule = rules.part(Schedule)
    loss: Loss = rules.part(Loss)
    statistics: Statistics = rules.part(Statistics)
    seeds: tuple[int, ...] = key(rules.listed(rules.integer(0), "seeds"), (0,))

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
    _check_exemplar(result.norm, where)
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
        raise ValueError(
            f"A recipe must be a name or a .yaml file; {hint}. "
            f"Received: {rules.SHOWN.repr(str(recipe))}"
        )
    where = f"Recipe {path.stem if path.parent == FOLDER else path}"
    if path.resolve() in above:
        raise rules.wrong(where, "base", "another recipe, not itself", str(recipe))
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
    both = {name: _merged(base[name], own[name]) for name in base if name in own}
    return {**copy.deepcopy(base), **own, **both}


def _change(values, override, where):
    name, sign, text = override.partition("=")
    if not sign or not name.strip():
        raise rules.wrong("An override", "", "key=value, as norm.name=bn", override)
    *parts, last = name.strip().split(".")
    for part in parts:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ValueError(
                rules.unknown(where, name.strip(), rules.every_key(Recipe), text)
            )
        values = inner
    values[last] = yaml_files.parse(text, f"{where}: key `{name.strip()}`")


def _check_network(network, where):
    signature = inspect.signature(BUILDERS[network.name])
    allowed = [name for name in signature.parameters if name not in _OF_OTHERS]
    for name, value in network.arguments.items():
        if name not in allowed:
            keys = [f"network.arguments.{other}" for other in allowed]
            path = f"network.arguments.{name}"
            raise ValueError(
                rules.unknown(f"{where}, {network.name}", path, keys, value)
            )
    for name in allowed:
        needed = signature.parameters[name].default is inspect.Parameter.empty
        if needed and name not in network.arguments:
            path = f"network.arguments.{name}"
            raise ValueError(
                f"{where}: key `{path}` is missing. Received: {network.name} without"
            )


def _check_exemplar(norm, where):
    for name, value in norm.exemplar.items():
        if name not in _EXEMPLAR:
            keys = [f"norm.exemplar.{other}" for other in _EXEMPLAR]
            raise ValueError(rules.unknown(where, f"norm.exemplar.{name}", keys, value))
    try:
        ExemplarNormalization(**norm.exemplar)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: key `norm.exemplar`: {error}") from None


def _check_optimizer(part, where):
    if part.nesterov and not (part.name == "sgd" and part.momentum):
        allowed = "false without SGD's momentum"
        raise rules.wrong(where, "optimizer.nesterov", allowed, part.nesterov)
    if part.decay == "decoupled":
        default = Optimizer()
        for name in ("exclude", "ratio_weight_decay"):
            value, usual = getattr(part, name), getattr(default, name)
            if value != usual:
                allowed = 'absent with optimizer.decay: "decoupled"'
                raise rules.wrong(where, f"optimizer.{name}", allowed, value)


def _check_schedule(part, where):
    stones = part.milestones
    if bool(stones) != (part.name == "steps"):
        allowed = "a list of numbers with schedule.name: steps, and absent otherwise"
        raise rules.wrong(where, "schedule.milestones", allowed, list(stones))
    rising = [*stones, part.duration]
    if any(a >= b for a, b in zip(rising, rising[1:], strict=False)):
        allowed = f"rising numbers below the duration, {part.duration:g}"
        raise rules.wrong(where, "schedule.milestones", allowed, list(stones))
    if part.warmup >= part.duration:
        allowed = f"below the duration, {part.duration:g}"
        raise rules.wrong(where, "schedule.warmup", allowed, part.warmup)
