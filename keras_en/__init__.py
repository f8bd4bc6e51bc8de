"""Exemplar Normalization for Keras 3."""

import os

# In a checkout `models/` and `export/` stand beside this package; an installed
# package already holds them. Keras's own repository does the same.
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_root, "setup.cfg")):
    __path__.append(_root)

from keras_en.layers.exemplar_normalization import ExemplarNormalization  # noqa: E402
from keras_en.version import __version__  # noqa: E402

__all__ = ["ExemplarNormalization", "__version__"]
