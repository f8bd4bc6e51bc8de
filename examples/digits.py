# %% [markdown]
# # Handwritten digits in a minute, and what the network chose
#
# A small network with Exemplar Normalization learns the 1,797 digits of scikit-learn,
# without a download, and a page shows which normalization it chose: by layer, by class
# and by image.
#
# `pip install '.[all]'` from a clone of the repository is all that it needs.

# %%
from pathlib import Path

import keras
import numpy as np

from keras_en.analysis import (
    RatioHistory,
    RatioRecorder,
    collect_ratios,
    layers_to_freeze,
    write_report,
)
from keras_en.models import CifarResNet
from keras_en.training import digits

EPOCHS = 15
keras.utils.set_random_seed(0)

# %% [markdown]
# ## The data
#
# Three parts, each `(images, labels)`, stratified by class.

# %%
data = digits(seed=0)
print({name: split.images.shape for name, split in data.items()})

# %% [markdown]
# ## The network
#
# A residual network of 8 layers; `norm="en"` is the default. The momentum is that of
# the moving statistics: this training has few steps, and they have to follow.

# %%
model = CifarResNet(8, input_shape=(8, 8, 1), norm_kwargs={"momentum": 0.9})
steps = EPOCHS * (len(data["train"].images) // 64 + 1)
model.compile(
    keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, steps), momentum=0.9, nesterov=True
    ),
    "sparse_categorical_crossentropy",
    metrics=["accuracy"],
)

# %% [markdown]
# ## Training, by `fit`
#
# The callback notes the ratios of the validation images while the network learns.

# %%
recorder = RatioRecorder(
    data["validation"].images, data["validation"].labels, "history.npz"
)
model.fit(
    *data["train"],
    batch_size=64,
    epochs=EPOCHS,
    validation_data=data["validation"],
    callbacks=[recorder],
    verbose=2,
)
_, accuracy = model.evaluate(*data["test"], verbose=0)
print(f"test accuracy: {accuracy:.1%}")

# %% [markdown]
# ## What it chose
#
# `ratios.mean()` has a row a layer and a column a normalizer: instance, layer, batch.

# %%
test = data["test"]
ratios = collect_ratios(model, test.images, test.labels)
for path, row in zip(ratios.paths, np.round(ratios.mean(), 2), strict=True):
    print(f"{path:32}", *row)
print("settled:", layers_to_freeze(ratios))

# %% [markdown]
# All of it as one page that loads nothing from elsewhere: open `report/report.html`.

# %%
Path("report").mkdir(exist_ok=True)
page = write_report(
    "report",
    "ResNet-8 on digits",
    ratios,
    history=RatioHistory.load("history.npz"),
    facts=[("test accuracy", f"{accuracy:.1%}"), ("epochs", str(EPOCHS))],
)
print(page)
