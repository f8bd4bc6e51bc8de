"""The graph-mode loader in a process without Keras."""

import json
import subprocess
import sys

import numpy as np

# Runs where keras and keras_en cannot be imported, as TensorFlow Serving does.
SESSION = """
import json, sys
sys.modules["keras"] = sys.modules["keras_en"] = None
import numpy as np
import tensorflow as tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    signature = model.signature_def["serving_default"]
    (fed,), (fetched,) = signature.inputs.values(), signature.outputs.values()
    for line in sys.stdin:
        inputs = np.array(json.loads(line), "float32")
        outputs = session.run(fetched.name, {fed.name: inputs})
        print("outputs", json.dumps(outputs.tolist()))
"""


def serve(directory, batches):
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(directory)],
        input="\n".join(json.dumps(x.tolist()) for x in batches),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    lines = [line for line in done.stdout.splitlines() if line.startswith("outputs")]
    return [np.array(json.loads(line.removeprefix("outputs "))) for line in lines]
