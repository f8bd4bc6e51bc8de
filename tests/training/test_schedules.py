"""Learning rates by the step, against numbers by hand."""

import math

import keras
import numpy as np
import pytest

from keras_en.training.schedules import NAMES, WarmUp, schedule
from tests.backends import numpy

SINE = math.sqrt(0.5)  # of an eighth of a turn


def rates(decay, steps):
    return [float(numpy(decay(step))) for step in steps]


def test_steps_fall_in_the_step_of_the_milestone():
    """Epochs of 10 steps, / 10 at epochs 3 and 5: in steps 30 and 50, from 0."""
    decay = schedule("steps", 0.1, 80, milestones=(30, 50), factor=0.1)
    steps = [0, 29, 30, 49, 50, 79]
    np.testing.assert_allclose(
        rates(decay, steps), [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6
    )


@pytest.mark.parametrize(
    "name, expected",
    [
        ("constant", [0.4, 0.4, 0.4, 0.4, 0.4]),
        ("linear", [0.4, 0.3, 0.2, 0.1, 0.0]),
        ("poly", [0.4, 0.4 * 0.75**0.9, 0.4 * 0.5**0.9, 0.4 * 0.25**0.9, 0.0]),
        ("cosine", [0.4, 0.2 + 0.2 * SINE, 0.2, 0.2 - 0.2 * SINE, 0.0]),
    ],
)
def test_from_beginning_to_end(name, expected):
    decay = schedule(name, 0.4, 8)
    np.testing.assert_allclose(rates(decay, [0, 2, 4, 6, 8]), expected, atol=1e-7)
    assert rates(decay, [1000])[0] == pytest.approx(expected[-1], abs=1e-7)


def test_warm_up_rises_from_0_and_moves_nothing():
    """In an epoch of 4 steps, as Sec. 4.3 has it; the milestone stays where it was."""
    decay = schedule("steps", 0.1, 20, milestones=(6,), warmup=4)
    expected = [0, 0.025, 0.05, 0.075, 0.1, 0.1, 0.01]
    np.testing.assert_allclose(rates(decay, range(7)), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_brings_it_back_from_a_file(name):
    stones = (3, 5) if name == "steps" else ()
    decay = schedule(name, 0.1, 8, milestones=stones, warmup=2)
    optimizer = keras.optimizers.SGD(decay)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    for _ in range(7):
        assert float(numpy(again.learning_rate)) == float(
            numpy(optimizer.learning_rate)
        )
        for each in (optimizer, again):
            each.iterations.assign(each.iterations + 1)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`name` must be one of .*'step'"):
        schedule("step", 0.1, 10)
    with pytest.raises(ValueError, match="`steps` must be an integer of at least 1"):
        WarmUp(schedule("constant", 0.1, 10), 0)
    with pytest.raises(ValueError, match="`schedule` must be a LearningRateSchedule"):
        WarmUp(0.1, 3)
