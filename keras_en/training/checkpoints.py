"""The whole state of a training run in one file, written by the chief."""

import json
import random
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_en import files

NAME = "checkpoint.npz"
# What a process that is killed in the middle of a save leaves.
PARTIAL = "checkpoint.partial"


def save(folder, model, progress, write):
    """Writes `folder/checkpoint.npz`: every variable of the model, its metrics and
    its optimizer, the random states of Python and NumPy, and `progress`.

    It is written beside its place and moved there: whenever the process is killed,
    the file is the old one or the new one, whole.

    Args:
        folder: Path; made if absent.
        model: Compiled and built `keras.Model`.
        progress: What JSON can hold.
        write: Whether this process is the one that writes. All must call: reading
            metrics is a collective.
    """
    values = {key: _raw(variable) for key, variable in _variables(model).items()}
    if not write:
        return
    state = {"progress": progress, "random": _random_state()}
    values["state"] = np.frombuffer(
        json.dumps(state, default=lambda v: np.asarray(v).tolist()).encode(), "uint8"
    )
    path = Path(folder) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(
        path, path.with_name(PARTIAL), lambda file: np.savez(file, **values)
    )


def read(folder, model):
    """What `save` wrote, checked against `model`, which is not changed.

    Returns:
        `progress`, and a function that loads the rest; or `None` where `folder` holds
        no checkpoint.

    Raises:
        ValueError: The checkpoint is not of this model and optimizer, or is damaged.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return None
    try:
        # NumPy leaves open what it opens and cannot read.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            values = dict(file)
        state = json.loads(values.pop("state").tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Argument `checkpoint` must hold a checkpoint of this run. Received: "
            f"{path}, which cannot be read ({error})"
        ) from error
    variables = _variables(model)
    for key in {**variables, **values}:
        there = None if key not in values else values[key].shape
        wanted = None if key not in variables else tuple(variables[key].shape)
        if there != wanted:
            raise ValueError(
                "Argument `checkpoint` must hold a checkpoint of this model and "
                f"optimizer; the first difference is {key}: {wanted} here, {there} "
                f"there. Nothing was loaded. Received: {path}"
            )

    def load():
        for key, variable in variables.items():
            # Keras names the dtypes that NumPy does not know as ml_dtypes does.
            variable.assign(values[key].view(_dtype(variable)))
        _set_random_state(state["random"])

    return state["progress"], load


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
    return (
        value if value.dtype.isbuiltin == 1 else value.view(f"u{value.dtype.itemsize}")
    )


def _dtype(variable):
    return keras.ops.convert_to_numpy(keras.ops.zeros((), variable.dtype)).dtype


def _random_state():
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, keys.tolist(), *rest],
    }


def _set_random_state(state):
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, "uint32"), *rest))
