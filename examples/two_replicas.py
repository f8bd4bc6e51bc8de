# %% [markdown]
# # Two replicas, and two processes
#
# With `synchronized=True` statistics, outputs and gradients do not depend on how a
# batch was split. Here two logical CPUs of this machine train as one device does, and
# then two processes that meet on 127.0.0.1, as hosts would. With GPUs the same lines
# use them.

# %%
import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np

from keras_en import training
from keras_en.models import CifarResNet

EPOCHS = 3

# %% [markdown]
# ## Two replicas
#
# The strategy comes first: TensorFlow divides CPUs only before it touches one.

# %%
mirrored = training.strategy("mirrored", replicas=2)
data = training.digits()


def trained(scope):
    with scope:
        keras.utils.set_random_seed(0)
        model = CifarResNet(
            8,
            input_shape=(8, 8, 1),
            norm_kwargs={"synchronized": True, "momentum": 0.9},
        )
        model.compile(
            keras.optimizers.SGD(0.05),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    training.fit(model, *data["train"], batch_size=64, epochs=EPOCHS, verbose=2)
    print(training.evaluate(model, *data["test"], batch_size=64, verbose=0))
    return model.predict(data["test"].images[:64], verbose=0)


two = trained(mirrored.scope())

# %% [markdown]
# ## One device
#
# The same seeds, the same batches. What differs is rounding, which many steps let grow.

# %%
one = trained(training.strategy("none").scope())
print(f"largest difference of a probability: {np.abs(two - one).max():.1e}")

# %% [markdown]
# ## Two processes
#
# Each finds its place in `TF_CONFIG`. On real hosts start the same command on each,
# with the addresses of all.


# %%
def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


workers = [f"127.0.0.1:{free_port()}" for _ in range(2)]
command = [sys.executable, "-m", "keras_en.cli", "train", "digits"]
command += ["--strategy", "multiworker", "--epochs", str(EPOCHS), "--output", "two"]
processes = []
for index in range(2):
    place = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(place)}
    processes.append(subprocess.Popen(command, env=environment))
for process in processes:
    assert process.wait() == 0
print(sorted(os.listdir("two")))
