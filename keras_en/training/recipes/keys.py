"""The keys of a recipe, by the part that they are of."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from keras_en import models
from keras_en.models import norms
from keras_en.training import optimizers, schedules
from keras_en.training.data.augmentation import LARGEST_SIDE
from keras_en.training.data.sources import is_source, path_and_key
from keras_en.training.recipes import rules
from keras_en.training.recipes.rules import key

BUILDERS: dict[str, Callable[..., Any]] = {
    name: getattr(models, name) for name in models.__all__ if name != "summary_table"
}
_SIDES = f"short sides, from 8 to {LARGEST_SIDE}"
_SOURCES = ("digits", "tfds:NAME", "folder:PATH", "list:FILE", "npz:PATH")


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
    """`exemplar`: arguments of `ExemplarNormalization`, for "en" alone; `switchable`:
    of `SwitchableNormalization` and the sparse one, for "sn" and "ssn"; `epsilon`:
    `None`: the layer's."""

    name: str = key(rules.one_of(norms.NAMES), "en")
    epsilon: float | None = key(rules.optional(rules.number(0, 1, above=True)), None)
    synchronized: bool = key(rules.flag(), False)
    exemplar: dict[str, Any] = key(rules.mapping("arguments to values"), {})
    switchable: dict[str, Any] = key(rules.mapping("arguments to values"), {})

    def own_arguments(self) -> tuple[str, dict[str, Any]]:
        """The key that holds arguments for the layer of this name, and those."""
        part = {"en": "exemplar", "sn": "switchable", "ssn": "switchable"}
        if self.name not in part:
            return "", {}
        return f"norm.{part[self.name]}", getattr(self, part[self.name])


@dataclasses.dataclass(frozen=True)
class DataPart:
    """`source`, `labels`, `image_size`: see `keras_en.training.data`; `train` and
    `evaluate`: steps of what happens to an image; `scales`: short sides of a test of
    several sizes; `limit_train`: so many training images, drawn by chance, the same for
    every seed; `hold_out`: so many, of every class its share, are not trained on, and
    stand in the place of validation and test images: to choose settings by."""

    source: str = key(rules.text(f"one of {', '.join(_SOURCES)}", is_source))
    labels: str | None = key(
        rules.optional(rules.text("npz:PATH:KEY", path_and_key)), None
    )
    image_size: int | None = key(rules.optional(rules.integer(1, LARGEST_SIDE)), None)
    batch_size: int = key(rules.integer(1), 128)
    train: tuple[Any, ...] = key(rules.steps(), ())
    evaluate: tuple[Any, ...] = key(rules.steps(), ())
    scales: tuple[int, ...] = key(
        rules.listed(rules.integer(8, LARGEST_SIDE), _SIDES), ()
    )
    limit_train: int | None = key(rules.optional(rules.integer(1)), None)
    hold_out: int | None = key(rules.optional(rules.integer(1)), None)

    def where(self) -> dict[str, Any]:
        """`source`, `labels` and `image_size`, with the environment's variables in
        paths, such as $KERAS_EN_DATA, replaced.

        Raises:
            ValueError: One is not set.
        """
        result: dict[str, Any] = {"image_size": self.image_size}
        for name in ("source", "labels"):
            value = getattr(self, name)
            result[name] = value and os.path.expandvars(value)
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
    # A share of it is a number, too.
    duration: float = key(rules.number(1e-6), 100.0)
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
