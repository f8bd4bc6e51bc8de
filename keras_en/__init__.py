"""Exemplar Normalization for Keras 3."""

import os

# In a checkout `models/` and `export/` stand beside this package; an installed
# package already holds them. Keras's own repository does the same.
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_root, "setup.cfg")):
    __path__.append(_root)

from keras_en.layers import (  # noqa: E402
    ExemplarNormalization,
    SparseSwitchableNormalization,
    SwitchableNormalization,
)
from keras_en.surgery import replace_normalization  # noqa: E402
from keras_en.training.recalibration import recalibrate  # noqa: E402
from keras_en.version import __version__  # noqa: E402

__all__ = [
    "ExemplarNormalization",
    "SparseSwitchableNormalization",
    "SwitchableNormalization",
    "__version__",
    "recalibrate",
    "replace_normalization",
]
