"""`python python_loader.py DIRECTORY CASES OUTPUTS`: `tf.saved_model.load`.

CASES is a folder of files `<number>.<signature>.npz`, each with inputs by name; OUTPUTS
gets a file of the same name for each, with the outputs by name.
"""

import sys
from pathlib import Path


def main(directory, cases, outputs):
    import numpy as np
    import tensorflow as tf

    signatures = tf.saved_model.load(directory).signatures
    for case in sorted(Path(cases).glob("*.npz")):
        given = np.load(case, allow_pickle=True).items()
        serve = signatures[case.name.split(".")[1]]
        outputs_of_case = serve(**{k: tf.constant(v) for k, v in given})
        found = {k: v.numpy() for k, v in outputs_of_case.items()}
        np.savez(Path(outputs, case.name), **found)


if __name__ == "__main__":
    # An artefact that needs them must fail here.
    sys.modules["keras"] = sys.modules["keras_en"] = None
    main(*sys.argv[1:])
