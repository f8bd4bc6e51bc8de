"""Exemplar Normalization for Keras 3."""

import os
import signal
import sys

# In a checkout `models/` and `export/` stand beside this package; an installed
# package already holds them. Keras's own repository does the same.
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_root, "setup.cfg")):
    __path__.append(_root)


def _interrupted(*_):
    """Ctrl-C while the command line imports TensorFlow, for seconds, in one line."""
    os.write(2, b"\nkeras-en: interrupted; nothing was written\n")
    os._exit(130)


_name = os.path.basename(getattr(sys, "argv", [""])[0])
# The name is "-m" while `python -m keras_en.cli` imports.
_is_command = _name == "keras-en" or (_name == "-m" and "keras_en.cli" in sys.orig_argv)
if _is_command and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)

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
