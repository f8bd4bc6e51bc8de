"""The whole state of a training run in one file, written by the chief."""

import contextlib
import json
import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from keras_en import files
from keras_en.arguments import fault, integer, require
from keras_en.text import one_line
from keras_en.training import identity, keras_private
from keras_en.training.strategies import is_chief
from keras_en.variables import value_of

NAME = "checkpoint.npz"
# What a process that is killed in the middle of a save leaves.
PARTIAL = "checkpoint.partial"
# The name of a learning rate that is a variable, in Keras's optimizers.
_RATE = "learning_rate"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch, step: Those of the next step.
        steps_done: Training steps so far, those before the run included.
        stopped: Whether a callback has ended the run.
        epochs, history: As `epoch` and `history` of `keras.callbacks.History`.
        rates: Learning rates that the model was compiled with; none of schedules.
    """

    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    stopped: bool = False
    epochs: list = field(default_factory=list)
    history: dict = field(default_factory=dict)
    rates: list = field(default_factory=list)

    def to_json(self):
        """A dictionary, with the keys that checkpoints have had from the first."""
        values = dict(vars(self))
        return {"taken": values.pop("steps_done"), **values}

    @classmethod
    def from_json(cls, values):
        """Raises `ValueError` or `TypeError` where no run can be so far."""
        progress = cls(steps_done=values.pop("taken"), **values)
        for name in ("epoch", "step", "steps_done"):
            integer(name, getattr(progress, name), minimum=0)
        counted = progress.steps_done >= progress.step
        lists = isinstance(progress.epochs, list) and isinstance(progress.rates, list)
        if not counted or not lists or not isinstance(progress.history, dict):
            raise ValueError(f"progress out of range: {vars(progress)}")
        return progress


@contextlib.contextmanager
def folder_of_run(folder, strategy):
    """Inside, the chief alone writes to `folder`, which is there.

    Raises:
        ValueError: It cannot be made or written to.
        RuntimeError: Another run writes to it.
    """
    if folder is None or not is_chief(strategy):
        yield
        return
    folder, reason = Path(folder), ""
    missing = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f", {error.strerror}"
    writable = not reason and os.access(folder, os.W_OK)
    what = "be a folder that can be written to, and hold no folder of the name " + NAME
    fits = writable and not Path(folder, NAME).is_dir()
    require(fits, "Argument `checkpoint`", what, f"{folder}{reason}")
    try:
        with files.locked(folder):
            yield
    finally:
        if missing:
            # Nothing was written: it goes; otherwise it is not empty.
            with contextlib.suppress(OSError):
                folder.rmdir()


def save(folder, model, progress, run):
    """Writes `folder/checkpoint.npz`: every variable of the model, its metrics and
    its optimizer, the random states of Python and NumPy, and the progress.

    It is written beside its place and moved there: whenever the process is killed,
    the file is the old one or the new one, whole. The chief writes, but all workers
    must call this: reading metrics is a collective.

    Args:
        folder: Path of a folder.
        model: Compiled and built `keras.Model`.
        progress: `Progress`.
        run: What `identity` says of the run.
    """
    variables = _variables(model)
    values = {key: _raw(variable) for key, variable in variables.items()}
    # Only TensorFlow's models have one.
    if not is_chief(getattr(model, "distribute_strategy", None)):
        return
    state = {
        "progress": progress.to_json(),
        "random": {"python": random.getstate(), "numpy": np.random.get_state()},
        "dtypes": {key: variable.dtype for key, variable in variables.items()},
        "run": run,
    }
    values["state"] = np.frombuffer(
        json.dumps(state, default=lambda v: np.asarray(v).tolist()).encode(), "uint8"
    )
    path = Path(folder, NAME)
    files.write_whole(
        path, path.with_name(PARTIAL), lambda file: np.savez(file, **values)
    )


def read(folder, model, resume, run):
    """What `save` wrote, checked against `model`, which is not changed.

    Args:
        folder, model, run: As in `save`.
        resume: As in `fit`.

    Returns:
        `Progress`; a function that loads the rest; a line that says where the run
        goes on, empty without `resume`. Where `folder` holds no checkpoint: those of a
        new run.

    Raises:
        ValueError: The checkpoint is not of this run, or is damaged.
    """
    path, own = None if folder is None else Path(folder, NAME), _rates(model)
    if not resume or path is None or not path.exists():
        line = f"No checkpoint in {folder}: a new run" if resume else ""
        steps_done = keras_private.steps_done(model.optimizer)
        return Progress(steps_done=steps_done, rates=own), lambda: None, line
    try:
        values, state, progress, set_random_states = _contents(path)
    # Zip files, NumPy, JSON and what the state lacks have their own.
    except Exception as error:
        received = f"{path}, which cannot be read ({one_line(error)})"
        what = "hold a checkpoint of this run"
        raise fault("Argument `checkpoint`", what, received) from error
    variables = _variables(model)
    _check_variables(path, values, state.get("dtypes", {}), variables)
    others = identity.differences(run, state.get("run"))
    if others and resume != "force":
        raise ValueError(
            "Argument `checkpoint` must hold a checkpoint of this run, for it to end "
            "as if it had never been interrupted; resume='force' (--resume force) goes "
            f"on nevertheless. Nothing was loaded. Differences: {'; '.join(others)}. "
            f"Received: {path}"
        )

    # Else callbacks may have changed what it was compiled with.
    own_rate = bool(progress.rates) and progress.rates != own

    def load():
        for key, variable in variables.items():
            if own_rate and variable.name == _RATE:
                continue
            # Keras names the dtypes that NumPy does not know as ml_dtypes does.
            dtype = keras.ops.convert_to_numpy(
                keras.ops.zeros((), variable.dtype)
            ).dtype
            variable.assign(values[key].view(dtype))
        set_random_states()

    line = f"Resumed at epoch {progress.epoch}, step {progress.step}, counted from 0"
    if own_rate:
        line += f", with the learning rate {_text(own)}, before {_text(progress.rates)}"
    if others:
        line += f", by force, with {'; '.join(others)}"
    return replace(progress, rates=own), load, line


def _rates(model):
    """The learning rates of a model's optimizer that are variables, as numbers."""
    rates = [v for v in model.optimizer.variables if v.name == _RATE]
    return [float(keras.ops.convert_to_numpy(rate.value)) for rate in rates]


def _text(rates):
    return " and ".join(f"{rate:g}" for rate in rates)


def _contents(path):
    """Values of variables, the state, the `Progress` in it, and a function that sets
    the random states."""
    # NumPy leaves open what it opens and cannot read.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        values = dict(file)
    state = json.loads(values.pop("state").tobytes())
    progress = Progress.from_json(state["progress"])
    version, words, gauss = state["random"]["python"]
    numbers = (version, tuple(words), gauss), tuple(state["random"]["numpy"])

    def set_states(python, numpy):
        python.setstate(numbers[0])
        numpy.set_state(numbers[1])

    # They fail here, before anything is loaded, if ever.
    set_states(random.Random(), np.random.RandomState())
    return values, state, progress, lambda: set_states(random, np.random)


def _check_variables(path, values, dtypes, variables):
    """Raises `ValueError` unless shapes and dtypes are those of `variables`."""
    for key in {**variables, **values}:
        there, here = None, None
        if key in values:
            there = f"{values[key].shape} {dtypes.get(key, values[key].dtype)}"
        if key in variables:
            here = f"{tuple(variables[key].shape)} {variables[key].dtype}"
        if there != here:
            raise ValueError(
                "Argument `checkpoint` must hold a checkpoint of this model and "
                f"optimizer; the first difference is {key}: {here} here, {there} "
                f"there. Nothing was loaded. Received: {path}"
            )


def _variables(model):
    """Variables by a key that no two share and that is stable from run to run."""
    # The optimizer's names hold those of layers, which Keras may number.
    groups = {
        "model": [(v, f"/{v.name}") for v in model.variables],
        "metrics": [(v, f"/{v.name}") for v in model.metrics_variables],
        "optimizer": [(v, "") for v in model.optimizer.variables],
    }
    return {
        f"{group}/{i:04d}{name}": variable
        for group, variables in groups.items()
        for i, (variable, name) in enumerate(variables)
    }


def _raw(variable):
    """Its value; bfloat16, which NumPy's files do not know, as the bits it is."""
    value = value_of(variable)
    bits = f"u{value.dtype.itemsize}"
    return value if value.dtype.isbuiltin == 1 else value.view(bits)
