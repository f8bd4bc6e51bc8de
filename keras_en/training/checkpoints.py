"""The whole state of a training run in one file, written by the chief."""

import json
import random
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from keras_en import files
from keras_en.training import keras_private
from keras_en.training.strategies import is_chief

NAME = "checkpoint.npz"
# What a process that is killed in the middle of a save leaves.
PARTIAL = "checkpoint.partial"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch, step: Those of the next step.
        steps_done: Training steps so far, those before the run included.
        stopped: Whether a callback has ended the run.
        epochs, history: As `epoch` and `history` of `keras.callbacks.History`.
    """

    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    stopped: bool = False
    epochs: list = field(default_factory=list)
    history: dict = field(default_factory=dict)

    def to_json(self):
        """A dictionary, with the keys that checkpoints have had from the first."""
        values = dict(vars(self))
        return {"taken": values.pop("steps_done"), **values}

    @classmethod
    def from_json(cls, values):
        return cls(steps_done=values.pop("taken"), **values)


def save(folder, model, progress):
    """Writes `folder/checkpoint.npz`: every variable of the model, its metrics and
    its optimizer, the random states of Python and NumPy, and the progress.

    It is written beside its place and moved there: whenever the process is killed,
    the file is the old one or the new one, whole. The chief writes, but all workers
    must call this: reading metrics is a collective.

    Args:
        folder: Path; made if absent.
        model: Compiled and built `keras.Model`.
        progress: `Progress`.
    """
    values = {key: _raw(variable) for key, variable in _variables(model).items()}
    if not is_chief(model.distribute_strategy):
        return
    random_states = {"python": random.getstate(), "numpy": np.random.get_state()}
    state = {"progress": progress.to_json(), "random": random_states}
    values["state"] = np.frombuffer(
        json.dumps(state, default=lambda v: np.asarray(v).tolist()).encode(), "uint8"
    )
    path = Path(folder, NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(
        path, path.with_name(PARTIAL), lambda file: np.savez(file, **values)
    )


def read(folder, model, resume):
    """What `save` wrote, checked against `model`, which is not changed.

    Returns:
        `Progress`, and a function that loads the rest. Without `resume`, or where
        `folder` holds no checkpoint: those of a new run.

    Raises:
        ValueError: The checkpoint is not of this model and optimizer, or is damaged.
    """
    if not resume or not Path(folder, NAME).exists():
        steps_done = keras_private.steps_done(model.optimizer)
        return Progress(steps_done=steps_done), lambda: None
    path = Path(folder, NAME)
    try:
        # NumPy leaves open what it opens and cannot read.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            values = dict(file)
        state = json.loads(values.pop("state").tobytes())
        progress = Progress.from_json(state["progress"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Argument `checkpoint` must hold a checkpoint of this run. Received: "
            f"{path}, which cannot be read ({error})"
        ) from error
    variables = _variables(model)
    _check_shapes(path, values, variables)

    def load():
        for key, variable in variables.items():
            # Keras names the dtypes that NumPy does not know as ml_dtypes does.
            dtype = keras.ops.convert_to_numpy(
                keras.ops.zeros((), variable.dtype)
            ).dtype
            variable.assign(values[key].view(dtype))
        version, words, gauss = state["random"]["python"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state(tuple(state["random"]["numpy"]))

    return progress, load


def _check_shapes(path, values, variables):
    for key in {**variables, **values}:
        there = values[key].shape if key in values else None
        here = tuple(variables[key].shape) if key in variables else None
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
    import tensorflow as tf

    # A metric's sum over replicas is none before it is a tensor.
    value = tf.convert_to_tensor(variable.value).numpy()
    bits = f"u{value.dtype.itemsize}"
    return value if value.dtype.isbuiltin == 1 else value.view(bits)
