"""Exemplar Normalization for Keras 3."""

import importlib
import os
from typing import TYPE_CHECKING

from keras_en import command
from keras_en.version import __version__

# In a checkout `models/` and `export/` stand beside this package; an installed
# package already holds them. Keras's own repository does the same.
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_root, "setup.cfg")):
    __path__.append(_root)

_HOMES = {
    "BatchKalmanNormalization": "keras_en.layers",
    "ExemplarNormalization": "keras_en.layers",
    "SparseSwitchableNormalization": "keras_en.layers",
    "SwitchableNormalization": "keras_en.layers",
    "recalibrate": "keras_en.training.recalibration",
    "replace_normalization": "keras_en.surgery",
}

if TYPE_CHECKING or not command.is_command():
    from keras_en.layers import (
        BatchKalmanNormalization,
        ExemplarNormalization,
        SparseSwitchableNormalization,
        SwitchableNormalization,
    )
    from keras_en.surgery import replace_normalization
    from keras_en.training.recalibration import recalibrate
else:
    # `keras-en --help` imports no Keras; before a command runs, `keras_en.cli.main`
    # imports, and so registers, all that `import keras_en` does elsewhere.
    command.answer_signals()

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)


__all__ = [
    "BatchKalmanNormalization",
    "ExemplarNormalization",
    "SparseSwitchableNormalization",
    "SwitchableNormalization",
    "__version__",
    "recalibrate",
    "replace_normalization",
]
