"""`python session_loader.py DIRECTORY CASES OUTPUTS`: the graph-mode loader.

It restores variables by name from the graph alone, as TensorFlow Serving's C++ loader
does: what Python's own loader forgives, it does not. CASES and OUTPUTS as in
`python_loader.py`; OUTPUTS gets `variables.json` as well, the SHA-256 of every variable
by its name. Fails if a variable has another value after the calls than before.
"""

import hashlib
import json
import sys
from pathlib import Path


def main(directory, cases, outputs):
    import numpy as np
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        variables = {
            op.name: tf.raw_ops.ReadVariableOp(
                resource=op.outputs[0], dtype=op.get_attr("dtype")
            )
            for op in graph.get_operations()
            if op.type == "VarHandleOp"
        }
        before = digests(session.run(variables))
        for case in sorted(Path(cases).glob("*.npz")):
            called = loaded.signature_def[case.name.split(".")[1]]
            fed = {
                called.inputs[k].name: v
                for k, v in np.load(case, allow_pickle=True).items()
            }
            fetched = {k: v.name for k, v in called.outputs.items()}
            np.savez(Path(outputs, case.name), **session.run(fetched, fed))
        after = digests(session.run(variables))
    changed = sorted(name for name in before if before[name] != after[name])
    if changed:
        sys.exit(f"variables changed while serving: {changed[:5]}")
    Path(outputs, "variables.json").write_text(json.dumps(after))


def digests(values):
    return {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in values.items()}


if __name__ == "__main__":
    # An artefact that needs them must fail here.
    sys.modules["keras"] = sys.modules["keras_en"] = None
    main(*sys.argv[1:])
