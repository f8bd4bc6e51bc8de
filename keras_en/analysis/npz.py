"""Files of arrays, whose faults are errors that name them."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_en.arguments import refused


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The arrays of an `.npz` file, inside; what is broken is a `ValueError`."""
    try:
        # NumPy leaves open what it opens and cannot read.
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            with arrays:
                yield arrays
    except FileNotFoundError:
        raise
    except Exception as error:  # Zip files, zlib and NumPy have their own.
        raise refused("path", "a file of ratios", f"{path}, {error}") from error
