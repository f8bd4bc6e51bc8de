"""The installed wheel, imported from another directory without its extras."""

import importlib.util
from importlib.metadata import version

import numpy as np

import keras_en
import keras_en.analysis
import keras_en.export
import keras_en.models
import keras_en.training

for module in (keras_en, keras_en.models, keras_en.export, keras_en.analysis):
    assert "site-packages" in module.__file__, module.__file__
for name in ("models", "export"):
    assert importlib.util.find_spec(name) is None, f"top-level {name} is installed"
assert version("keras-en") == keras_en.__version__

rng = np.random.default_rng(0)
x, y = rng.normal(size=(16, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 16)
model = keras_en.models.CifarResNet(8, input_shape=(8, 8, 3), classes=3)
model.compile("adam", "sparse_categorical_crossentropy")
history = model.fit(x, y, epochs=2, verbose=0).history["loss"]
assert np.isfinite(history).all()
# Without the extras: neither warm-up requests nor a client to play them.
path = keras_en.export.export_saved_model(model, "served", warmup_requests=False)
difference = keras_en.export.run_saved_model(path, x) - model.predict(x, verbose=0)
assert np.abs(difference).max() < 1e-4
print("smoke: ok")
