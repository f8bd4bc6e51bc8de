"""The network of the best epoch."""

from pathlib import Path
from typing import Any

import keras

from keras_en import files
from keras_en.training import build

NAME = "best.keras"
# Of validation, the first that there is.
METRICS = ("val_accuracy", "val_mean_iou", "val_main_mean_iou")


class Best(keras.callbacks.Callback):
    """Writes the network of the best epoch, by its metric on validation images."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / NAME

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        name = next((name for name in METRICS if name in (logs or {})), None)
        # `History` comes behind all others.
        before = self.model.history.history.get(name, [])
        if name is None or (before and logs[name] <= max(before)):
            return
        files.write(self._path, build.without_auxiliary(self.model).save)
