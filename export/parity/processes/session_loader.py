"""`python session_loader.py DIRECTORY CALLS OUTPUTS`: the graph-mode loader.

It restores variables by name from the graph alone, as TensorFlow Serving's C++ loader
does: what Python's own loader forgives, it does not. CALLS and OUTPUTS as in
`python_loader.py`; OUTPUTS gets `variables.json` as well: `digests`, the SHA-256 of
every variable by its name, and `changed`, the names of those that have another value
after the calls than before. `process.py` says how it ends.
"""

import hashlib
import json
from pathlib import Path

import process


def main(directory: str, calls: str, outputs: str) -> None:
    import numpy as np
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(
            session, ["serve"], directory
        ).signature_def
        variables = {
            op.name: tf.raw_ops.ReadVariableOp(
                resource=op.outputs[0], dtype=op.get_attr("dtype")
            )
            for op in graph.get_operations()
            if op.type == "VarHandleOp"
        }
        before = digests(session.run(variables))
        for call in sorted(Path(calls).glob("*.npz")):
            signature = signatures[call.name.split(".")[1]]
            arrays = np.load(call, allow_pickle=True).items()
            fed = {signature.inputs[k].name: v for k, v in arrays}
            fetched = {k: v.name for k, v in signature.outputs.items()}
            process.save(Path(outputs, call.name), session.run(fetched, fed))
        after = digests(session.run(variables))
    changed = sorted(name for name in before if before[name] != after[name])
    facts = {"digests": after, "changed": changed}
    with process.writing():
        Path(outputs, "variables.json").write_text(json.dumps(facts))


def digests(values: dict) -> dict[str, str]:
    return {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in values.items()}


if __name__ == "__main__":
    process.run(main)
