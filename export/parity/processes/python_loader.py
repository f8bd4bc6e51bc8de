"""`python python_loader.py DIRECTORY CALLS OUTPUTS`: `tf.saved_model.load`.

CALLS is a folder of files `<number>.<signature>.npz`, each with inputs by name; OUTPUTS
gets a file of the same name for each, with the outputs by name.
"""

import sys
from pathlib import Path


def main(directory: str, calls: str, outputs: str) -> None:
    import numpy as np
    import tensorflow as tf

    signatures = tf.saved_model.load(directory).signatures
    for call in sorted(Path(calls).glob("*.npz")):
        inputs = np.load(call, allow_pickle=True).items()
        serve = signatures[call.name.split(".")[1]]
        tensors = serve(**{k: tf.constant(v) for k, v in inputs})
        np.savez(Path(outputs, call.name), **{k: v.numpy() for k, v in tensors.items()})


if __name__ == "__main__":
    # An artefact that needs them must fail here.
    sys.modules["keras"] = sys.modules["keras_en"] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
