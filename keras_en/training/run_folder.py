"""The files that say what a run was: `recipe.yaml`, `run.json`, `history.csv`."""

import contextlib
import csv
import datetime
import importlib
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_en import files
from keras_en.training.recipes.recipe import Recipe
from keras_en.version import __version__

RECIPE, FACTS, HISTORY = "recipe.yaml", "run.json", "history.csv"


class RunFolder:
    """The folder of a run, for the process that writes.

    Every file is there as a whole, or as it was.

    Args:
        folder: Path.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._facts: dict[str, Any] = {}
        self._begun = 0.0

    def start(
        self,
        recipe: Recipe,
        command: str,
        seed: int,
        strategy: str = "none",
        replicas: int = 1,
        class_names: Sequence[str] = (),
        dtype_policy: str = "float32",
    ) -> None:
        """Writes `recipe.yaml` and `run.json`.

        `run.json` has an entry a process in `processes`, with when it began and ended;
        `ended` and `seconds` of one that was killed are `null`.

        Args:
            recipe: The one that is trained, with its keys changed.
            command: The command line.
            seed: That of the run.
            strategy, replicas: See `keras_en.training.strategy`.
            class_names: By label.
            dtype_policy: Name of that of the network.
        """
        self._begun = time.perf_counter()
        process = {"command": command, "began": _now(), "ended": None, "seconds": None}
        self._facts = {
            "recipe": recipe.name,
            "seed": seed,
            "versions": versions(),
            "hardware": hardware(),
            "strategy": strategy,
            "replicas": replicas,
            "dtype_policy": dtype_policy,
            "class_names": list(class_names),
            "processes": [*facts(self._folder).get("processes", ()), process],
        }
        files.write_text(self._folder / RECIPE, recipe.to_yaml())
        self._write()

    def finish(
        self,
        history: Mapping[str, Sequence[float]],
        metrics: Mapping[str, float],
    ) -> float:
        """Writes `history.csv`, and the end into `run.json`.

        Args:
            history: Metric to its values, one an epoch.
            metrics: What was measured at the end, `metrics` in `run.json`.

        Returns:
            The seconds of all processes that came to their ends.
        """
        files.write(self._folder / HISTORY, lambda new: _write_history(new, history))
        self._facts["metrics"] = dict(metrics)
        process = self._facts["processes"][-1]
        process["ended"] = _now()
        process["seconds"] = round(time.perf_counter() - self._begun, 1)
        self._write()
        return seconds(self._facts)

    def _write(self):
        text = json.dumps(self._facts, indent=2, ensure_ascii=False)
        files.write_text(self._folder / FACTS, text + "\n")


def facts(folder: Path) -> dict[str, Any]:
    """What `run.json` of a folder says. What cannot be read of it, or is of another
    kind than `RunFolder` writes, is not there."""
    values, result = _read(folder / FACTS), {}
    for name, of in _ENTRIES.items():
        with contextlib.suppress(*_OF_ANOTHER_KIND):
            result[name] = of(values[name])
    return result


def seconds(facts: Mapping[str, Any]) -> float:
    """Those of all processes of a run that came to their ends."""
    return sum(entry["seconds"] or 0 for entry in facts.get("processes", ()))


def metrics(path: Path) -> dict[str, float] | None:
    """Those of `run.json` or of a report of `keras-en evaluate`; `None` where there are
    none to be read."""
    with contextlib.suppress(*_OF_ANOTHER_KIND):
        return _numbers(_read(path)["metrics"])
    return None


def class_names(folder: Path) -> list[str] | None:
    """Those that a training has written into its folder, by label; `None` where none
    are to be read."""
    return facts(folder).get("class_names") or None


def check_classes(folder: Path, names: Sequence[str], start: str) -> None:
    """Raises where the classes of images are not, label by label, those of the training
    of a folder; of a source without names they are numbers.

    Args:
        folder: Folder.
        names: By label.
        start: Of the error: which argument must hold them.
    """
    trained = class_names(folder)
    numbers = list(map(str, range(len(names))))
    if trained is None or numbers in (trained[: len(names)], list(names)):
        return
    pairs = itertools.zip_longest(trained, names, fillvalue="none")
    for label, (before, now) in enumerate(pairs):
        if before != now:
            raise ValueError(
                f"{start} the classes of the training, in its order: "
                f"{before} as label {label}. Received: {now}"
            )


def versions() -> dict[str, str]:
    """Those of the packages that a result depends on."""
    backend = keras.backend.backend()
    return {
        "keras_en": __version__,
        "keras": keras.__version__,
        backend: importlib.import_module(backend).__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def hardware() -> dict[str, Any]:
    """Cores, processor and accelerators of this machine."""
    return {
        "cpu_count": os.cpu_count(),
        "processor": _processor(),
        "devices": _devices(),
    }


def _read(path):
    """The mapping of a JSON file; an empty one of another, or of none."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _of_kind(kind):
    """A function that returns a value of this kind, and takes no other."""

    def of(value):
        if type(value) is not kind:
            raise TypeError
        return value

    return of


_list, _dict = _of_kind(list), _of_kind(dict)


def _texts(value):
    return [str(each) for each in _list(value)]


def _numbers(value):
    return {name: float(each) for name, each in _dict(value).items()}


def _hardware(value):
    return {
        name: _texts(each) if name == "devices" else str(each)
        for name, each in _dict(value).items()
    }


def _processes(value):
    """A time that is no number is none, and so is an entry that is no mapping."""
    entries = [each for each in _list(value) if isinstance(each, dict)]
    times = [each.get("seconds") for each in entries]
    return [
        {**each, "seconds": time if type(time) in (int, float) else None}
        for each, time in zip(entries, times, strict=True)
    ]


# What raises where a value is not as `_ENTRIES` read it.
_OF_ANOTHER_KIND = (KeyError, TypeError, ValueError, OverflowError)
_ENTRIES: dict[str, Callable[[Any], Any]] = {
    "recipe": _of_kind(str),
    "seed": _of_kind(int),
    "versions": lambda value: {k: str(v) for k, v in _dict(value).items()},
    "hardware": _hardware,
    "dtype_policy": _of_kind(str),
    "class_names": _texts,
    "processes": _processes,
    "metrics": _numbers,
}


def _write_history(path, history):
    """A table of the metrics, an epoch a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *row])


def _devices():
    """The names of what the backend computes on."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices()
        details = map(tf.config.experimental.get_device_details, devices)
        return [
            detail.get("device_name", device.device_type)
            for device, detail in zip(devices, details, strict=True)
        ]
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices()]
    import torch

    gpus = range(torch.cuda.device_count())
    return [torch.cuda.get_device_name(i) for i in gpus] or ["CPU"]


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(models, platform.processor()).strip()


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
