# %% [markdown]
# # A network of keras.applications, converted and fine-tuned
#
# MobileNetV2 comes with BatchNormalization, and with weights that took days. Here every
# normalization of it becomes an Exemplar one, nothing that was learned is lost, and the
# whole is fine-tuned on a folder of images.

# %%
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from keras_en import recalibrate, replace_normalization
from keras_en.training.data import Transform, load

WEIGHTS = "imagenet"  # a download of 9 MB; None: random
FOLDER = Path("images")  # yours: one folder per class
IMAGES = 400
EPOCHS = 3
keras.utils.set_random_seed(0)

# %% [markdown]
# ## A folder of images
#
# Without one of your own the notebook makes one, of the digits of scikit-learn.

# %%
if not FOLDER.exists():
    digits = load_digits()
    for number in range(IMAGES):
        folder = FOLDER / str(digits.target[number])
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[number] * 255 / 16).astype("uint8")
        image = Image.fromarray(pixels).convert("RGB").resize((96, 96))
        image.save(folder / f"{number}.png")

# %% [markdown]
# `load` looks at every file before the training, and names what is broken. A fifth of
# each class becomes the validation images. MobileNetV2 takes pixels from -1 to 1.

# %%
data = load(f"folder:{FOLDER}", image_size=96)
transform = Transform.of([{"normalize": {"mean": 0.5, "std": 0.5}}])


def arrays(split):
    images, labels = zip(*data.splits[split].batches(32, transform), strict=True)
    return np.concatenate(images), np.concatenate(labels)


train, validation = arrays("train"), arrays("validation")
classes = len(data.class_names)
print(train[0].shape, validation[0].shape, classes, "classes")

# %% [markdown]
# ## Surgery
#
# With the default, `initial_ratios={"batch": 0.9}`, the new network starts close to the
# old one and every ratio can learn; with `{"batch": 1.0}` it is the old one.

# %%
old = keras.applications.MobileNetV2(
    weights=WEIGHTS, include_top=False, pooling="avg", input_shape=(96, 96, 3)
)
same = replace_normalization(old, initial_ratios={"batch": 1.0})
x = validation[0][:8]
difference = np.abs(same.predict(x, verbose=0) - old.predict(x, verbose=0)).max()
print(f"largest difference with batch=1.0: {difference:.1e}")
new, report = replace_normalization(old, return_report=True)
print(str(report).splitlines()[0])

# %% [markdown]
# ## Recalibration and fine-tuning
#
# These images are others than those of ImageNet. `recalibrate` computes the moving
# statistics over them, exactly, in one pass and without a gradient; once more after a
# short training, behind which they lag.

# %%
recalibrate(new, train[0], batch_size=32)
outputs = keras.layers.Dense(classes, activation="softmax")(new.output)
model = keras.Model(new.input, outputs)
model.compile(
    keras.optimizers.SGD(0.01, momentum=0.9),
    "sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
model.fit(*train, batch_size=32, epochs=EPOCHS, validation_data=validation, verbose=2)
recalibrate(model, train[0], batch_size=32)
print("after recalibration:", model.evaluate(*validation, verbose=0))
model.save("fine_tuned.keras")

# %% [markdown]
# The same by a command, with augmentation, checkpoints and a report:
# the guide "Convert and fine-tune" has it, with the preprocessing of this network.
