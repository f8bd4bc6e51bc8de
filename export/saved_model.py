"""SavedModel for TensorFlow Serving."""

from pathlib import Path

import keras

from .serving import serving_function


def export_saved_model(model, directory, version=1):
    """Writes `directory/<version>/`, which TensorFlow Serving loads.

    One signature, `serving_default`: `inputs` to `outputs`, any batch size, in
    inference mode. Unlike `tf.saved_model.save(model)`, what is written can be read
    by the C++ loader of TensorFlow Serving.

    Args:
        model: A built Keras model with one input and one output.
        directory: Path; made if absent.
        version: Positive integer.

    Returns:
        `pathlib.Path` of the version's directory.

    Raises:
        FileExistsError: The version exists.
        RuntimeError: The backend is not TensorFlow.
        ValueError: `model` has not one input and one output, or is not built.
    """
    path = Path(directory) / str(version)
    if path.exists():
        raise FileExistsError(
            f"Argument `directory` holds version {version} already. Received: {path}"
        )
    serve, spec = serving_function(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=[spec])
    archive.write_out(str(path), verbose=False)
    return path
