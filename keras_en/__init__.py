"""Exemplar Normalization for Keras 3."""

import os
import signal
import sys

# In a checkout `models/` and `export/` stand beside this package; an installed
# package already holds them. Keras's own repository does the same.
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_root, "setup.cfg")):
    __path__.append(_root)


def _ended(number, _):
    """Ctrl-C or SIGTERM while the command line imports TensorFlow, for seconds, in one
    line."""
    word = b"interrupted" if number == signal.SIGINT else b"terminated"
    os.write(2, b"\nkeras-en: " + word + b"; nothing was written\n")
    os._exit(128 + number)


_name = os.path.basename(getattr(sys, "argv", [""])[0])
# The name is "-m" while `python -m keras_en.cli` imports.
_is_command = _name == "keras-en" or (_name == "-m" and "keras_en.cli" in sys.orig_argv)
_usual = ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))
for _number, _handler in _usual if _is_command else ():
    if signal.getsignal(_number) == _handler:
        signal.signal(_number, _ended)

from keras_en.layers import (  # noqa: E402
    BatchKalmanNormalization,
    ExemplarNormalization,
    SparseSwitchableNormalization,
    SwitchableNormalization,
)
from keras_en.surgery import replace_normalization  # noqa: E402
from keras_en.training.recalibration import recalibrate  # noqa: E402
from keras_en.version import __version__  # noqa: E402

__all__ = [
    "BatchKalmanNormalization",
    "ExemplarNormalization",
    "SparseSwitchableNormalization",
    "SwitchableNormalization",
    "__version__",
    "recalibrate",
    "replace_normalization",
]
