"""Learning rates by the training step: Keras's schedules, and a warm-up before them."""

from typing import Any

import keras
from keras import ops
from keras.optimizers import schedules

from keras_en.arguments import check, integer

NAMES = ("constant", "steps", "linear", "poly", "cosine")


@keras.saving.register_keras_serializable(package="keras_en")
class WarmUp(schedules.LearningRateSchedule):
    """A schedule that begins with a linear rise from 0.

    `rate(i) = schedule(i) * min(1, i / steps)` in the training step after `i` others
    (He et al. 2016, Sec. 4.2, warm up by a smaller rate; Sec. 4.3 of the paper: from 0
    to 0.1 in the first epoch)

    Args:
        schedule: `keras.optimizers.schedules.LearningRateSchedule`.
        steps: Positive integer, the steps of the rise.

    Raises:
        ValueError, TypeError: `steps` is not positive, `schedule` is no schedule.

    Example:

    >>> constant = keras.optimizers.schedules.PolynomialDecay(0.1, 100, 0.1)
    >>> [round(float(WarmUp(constant, 4)(step)), 3) for step in range(6)]
    [0.0, 0.025, 0.05, 0.075, 0.1, 0.1]
    """

    def __init__(self, schedule: Any, steps: int) -> None:
        super().__init__()
        valid = isinstance(schedule, schedules.LearningRateSchedule)
        check(valid, "schedule", "a LearningRateSchedule", schedule)
        self.schedule = schedule
        self.steps = integer("steps", steps, minimum=1)

    def __call__(self, step: Any) -> Any:
        rate = self.schedule(step)
        step = ops.cast(step, rate.dtype)
        return rate * ops.minimum(ops.cast(1, rate.dtype), step / self.steps)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": schedules.serialize(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        schedule = schedules.deserialize(config["schedule"])
        return cls(schedule, config["steps"])


def schedule(
    name: str,
    rate: float,
    steps: int,
    milestones: tuple[int, ...] = (),
    factor: float = 0.1,
    power: float = 0.9,
    warmup: int = 0,
) -> schedules.LearningRateSchedule:
    """The schedule of a training.

    >>> decay = schedule("steps", 0.1, 100, milestones=(2, 4))
    >>> [round(float(decay(step)), 4) for step in range(5)]
    [0.1, 0.1, 0.01, 0.01, 0.001]

    Args:
        name: One of
            - "constant": `rate`;
            - "steps": times `factor` from each of the `milestones` on;
            - "linear": from `rate` to 0 in the step behind the last;
            - "poly": `rate * (1 - i / steps) ** power` (Chen et al. 2018, Sec. 4.1);
            - "cosine": `rate * (1 + cos(pi * i / steps)) / 2`.
        rate: The learning rate that it begins with.
        steps: Number of training steps.
        milestones: Of "steps": the number of steps before each fall.
        factor: Of "steps".
        power: Of "poly".
        warmup: Steps of a rise from 0, see `WarmUp`; the rest stays where it was.

    Returns:
        `keras.optimizers.schedules.LearningRateSchedule`.

    Raises:
        ValueError: `name` is unknown.
    """
    check(name in NAMES, "name", f"one of {NAMES}", name)
    if name == "steps":
        # Keras's boundary is the last step before the fall.
        boundaries = [milestone - 1 for milestone in milestones]
        rates = [rate * factor**i for i in range(len(milestones) + 1)]
        result = schedules.PiecewiseConstantDecay(boundaries, rates)
    elif name == "cosine":
        result = schedules.CosineDecay(rate, steps)
    else:
        end = rate if name == "constant" else 0.0
        exponent = power if name == "poly" else 1.0
        result = schedules.PolynomialDecay(rate, steps, end, exponent)
    return WarmUp(result, warmup) if warmup else result
