# %% [markdown]
# # Export, verify, serve and call
#
# A network leaves Python as a SavedModel and as an ONNX file. Both are run as their
# servers run them and compared with the model; then one is served over HTTP, and
# called.

# %%
import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import keras
import numpy as np
import onnxruntime

from keras_en import export
from keras_en.models import CifarResNet
from keras_en.training import digits

EPOCHS = 10
BATCHES = (1, 7, 32)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## A network

# %%
data = digits()
model = CifarResNet(8, input_shape=(8, 8, 1), norm_kwargs={"momentum": 0.9})
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(*data["train"], batch_size=64, epochs=EPOCHS, verbose=2)
images, labels = data["test"]

# %% [markdown]
# ## Export
#
# `served/1`, `served/2`, ... is what TensorFlow Serving watches. The SavedModel has
# signatures for tensors, for encoded images, and for the ratios with every answer.

# %%
saved_model = export.export_saved_model(model, "served")
onnx = export.export_onnx(
    model, "digits.onnx", metadata={"class_names": list("0123456789")}, overwrite=True
)
print(export.inspect(saved_model).signatures)

# %% [markdown]
# ## Verify
#
# In processes that can import neither keras nor keras_en: batch sizes, kinds of images,
# rounding. `keras-en export` does this before a file gets its name.

# %%
for artefact in (saved_model, onnx):
    report = export.verify(model, artefact, batches=BATCHES)
    assert report.passed
    print(report.to_markdown())

# %% [markdown]
# ## Serve and call
#
# With TensorFlow Serving:
#
# ```
# docker run -p 8501:8501 -v "$PWD/served:/models/en" -e MODEL_NAME=en \
#     tensorflow/serving
# ```
#
# ONNX Runtime fits into any program. This one is the smallest server that Python has;
# it needs neither keras nor TensorFlow.

# %%
session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        values = np.array(json.loads(body)["instances"], "float32")
        (predictions,) = session.run(None, {name: values})
        answer = json.dumps({"predictions": predictions.tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()

# %%
request = urllib.request.Request(
    f"http://127.0.0.1:{server.server_port}",
    json.dumps({"instances": images[:8].tolist()}).encode(),
)
with urllib.request.urlopen(request) as answer:
    predictions = np.array(json.load(answer)["predictions"])
server.shutdown()
server.server_close()
print("classes:", predictions.argmax(-1), "labels:", labels[:8])
expected = model.predict(images[:8], verbose=0)
assert np.abs(predictions - expected).max() < 1e-4
