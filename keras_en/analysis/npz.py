"""Files of arrays, whose faults are errors that name them."""

import os
import zipfile
from typing import Any

import numpy as np

from keras_en.arguments import refused


class opened:
    """The arrays of an `.npz` file, inside; what is broken is a `ValueError`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.file = np.load(self.path, allow_pickle=False)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise self._broken(error) from error
        if not isinstance(self.file, np.lib.npyio.NpzFile):
            raise self._broken("a single array")
        return self.file

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.file.close()
        broken = (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile)
        if kind is not None and issubclass(kind, broken):
            raise self._broken(error) from error

    def _broken(self, error):
        return refused("path", "a file of ratios", f"{self.path}, {error}")
