"""`python python_loader.py DIRECTORY CALLS OUTPUTS`: `tf.saved_model.load`.

CALLS is a folder of files `<number>.<signature>.npz`, each with inputs by name; OUTPUTS
gets a file of the same name for each, with the outputs by name. `process.py` says how
it ends.
"""

from pathlib import Path

import process


def main(directory: str, calls: str, outputs: str) -> None:
    import numpy as np
    import tensorflow as tf

    signatures = tf.saved_model.load(directory).signatures
    for call in sorted(Path(calls).glob("*.npz")):
        inputs = np.load(call, allow_pickle=True).items()
        serve = signatures[call.name.split(".")[1]]
        tensors = serve(**{k: tf.constant(v) for k, v in inputs})
        values = {k: v.numpy() for k, v in tensors.items()}
        process.save(Path(outputs, call.name), values)


if __name__ == "__main__":
    process.run(main)
