"""What TensorBoard shows of a training: metrics, learning rate, important ratios."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_en.analysis import exemplar_layers
from keras_en.analysis.collect import Collector
from keras_en.training import keras_private
from keras_en.training.events import EventFile
from keras_en.training.progress import writes


class TensorBoard(keras.callbacks.Callback):
    """Writes scalars after every epoch, numbered from 1, for TensorBoard.

    In `folder/train`: `epoch_loss` and other metrics of training,
    `epoch_learning_rate`, that of the step to come, and
    `ratios/<layer>/<normalizer>`, the mean over the images of `probe`; in
    `folder/validation` the metrics of validation under the same tags.
    `keras.callbacks.TensorBoard` needs TensorFlow, and for scalars the package
    tensorboard; here that is only needed to look at them
    (`pip install tensorboard; tensorboard --logdir FOLDER`).

    For `keras_en.training.fit` and `model.fit`, on every backend. Of many processes one
    writes, though all have to have it.

    Args:
        folder: Where to write.
        probe: Images `(N, ...)` as the model gets them, the same in every epoch; a few
            are enough. `None`: no ratios. Nor are there any of a model without
            `ExemplarNormalization`.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x = np.zeros((2, 1))
    >>> history = model.fit(x, x, verbose=0, callbacks=[TensorBoard(folder)])
    >>> [path.name.split(".")[2] for path in folder.glob("train/*")]
    ['tfevents']
    """

    def __init__(self, folder: str | os.PathLike[str], probe: Any = None) -> None:
        super().__init__()
        self._probe = probe
        self._collector: Collector | None = None
        self._train = EventFile(Path(folder, "train"))
        self._validation = EventFile(Path(folder, "validation"))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        metrics: dict[str, dict[str, float]] = {"": {}, "val_": {}}
        for name, value in (logs or {}).items():
            if np.ndim(value) == 0:
                prefix = "val_" if name.startswith("val_") else ""
                metrics[prefix][f"epoch_{name.removeprefix(prefix)}"] = float(value)
        train = metrics[""]
        train["epoch_learning_rate"] = learning_rate(self.model)
        if self._probe is not None and exemplar_layers(self.model):
            # Traced once.
            if self._collector is None or self._collector.model is not self.model:
                self._collector = Collector(self.model)
            # On every process: a variable may be one that they read together.
            for path, means in mean_ratios(self._collector, self._probe).items():
                train |= {f"ratios/{path}/{name}": v for name, v in means.items()}
        if writes(self.model):
            self._train.write(epoch + 1, train)
            if metrics["val_"]:
                self._validation.write(epoch + 1, metrics["val_"])


def learning_rate(model: keras.Model) -> float:
    """That of the next step."""
    optimizer = keras_private.inner_optimizer(model.optimizer)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def mean_ratios(collector: Collector, images: Any) -> dict[str, dict[str, float]]:
    """The mean over images of each `ExemplarNormalization` and normalizer: by the path
    of the layer, with a number for each call behind the first, and by name."""
    ratios = collector.collect(images, verbose=0)
    return {
        layer.path: dict(zip(layer.pool, mean.tolist(), strict=True))
        for layer, mean in zip(ratios.layers, ratios.means, strict=True)
    }
