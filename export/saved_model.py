"""SavedModel for TensorFlow Serving."""

import tempfile
from pathlib import Path

import keras

from .serving import serving_function


def export_saved_model(model, directory, version=1):
    """Writes `directory/<version>/`, which TensorFlow Serving loads.

    One signature, `serving_default`: `inputs` to `outputs`, any batch size, in
    inference mode. Unlike `tf.saved_model.save(model)`, what is written can be read
    by the C++ loader of TensorFlow Serving.

    It is written beside its final place and moved there: no half version is ever
    visible.

    Args:
        model: A functional or Sequential model, built, with one input and one output.
        directory: Path; made if absent.
        version: Positive integer.

    Returns:
        `pathlib.Path` of the version's directory.

    Raises:
        FileExistsError: The version exists.
        RuntimeError: The backend is not TensorFlow.
        ValueError: `version` is not a positive integer, or `model` has not one input
            and one output, or is not built.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(
            "Argument `version` must be a positive integer. "
            f"Received: version={version!r}"
        )
    path = Path(directory) / str(version)
    if path.exists():
        raise FileExistsError(
            f"Argument `directory` holds version {version} already. Received: {path}"
        )
    serve, spec = serving_function(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=[spec])
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that is no number: TensorFlow Serving does not look at it.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as work:
        archive.write_out(str(Path(work, "model")), verbose=False)
        Path(work, "model").replace(path)
    return path
