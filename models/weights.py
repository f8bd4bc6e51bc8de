"""Weights from a file, with errors that say which layer differs."""

import os
import re
import warnings
import zipfile

import keras

from keras_en.text import one_line

# Keras: "object <Conv2D name=stem_conv, built=True>: \n\n the reason".
_LAYER_AND_REASON = re.compile(r"object <\w+ name=([^,>]+)[^>]*>:\s*(\S[^\n]*)")


def load_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """`model.load_weights(path)`, whose error names the first layer that differs.

    Raises:
        ValueError: The file is of another architecture, or no file of weights. What
            `model` holds is then undefined.
    """
    try:
        with warnings.catch_warnings():
            # Of the layers that the error names.
            warnings.filterwarnings("ignore", "Skipping nested container")
            model.load_weights(path)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        wanted = f"Argument `weights` must be a file of the weights of {model.name}"
        received = f"Received: weights={str(path)!r}"
        match = _LAYER_AND_REASON.search(str(error))
        if match is None:
            raise ValueError(f"{wanted}: {one_line(error)} {received}") from error
        raise ValueError(
            f"{wanted}; nothing was loaded. The first layer that differs is "
            f"`{match[1]}`: {match[2]} {received}"
        ) from error
