"""A worker process: 50 steps of a ResNet-8 on digits; see `test_workers.py`.

In float64: a ReLU turns a last bit into another gradient, and float32 runs of 50 steps
drift apart on some processors (2e-2 after them) and not on others (below 1e-4).
"""

import argparse
import os
import signal

import keras
import numpy as np

from keras_en import training
from keras_en.models import CifarResNet
from keras_en.training.strategies import is_chief

SAMPLES, BATCH, EPOCHS = 637, 64, 5  # 9 batches of 64 and one of 61: 50 steps
STEPS = EPOCHS * -(-SAMPLES // BATCH)


class Dies(keras.callbacks.Callback):
    """As if the machine lost power, or its network, after a number of steps."""

    def __init__(self, step, hangs):
        super().__init__()
        self.remaining = step
        self.signal = signal.SIGSTOP if hangs else signal.SIGKILL

    def on_train_batch_end(self, batch, logs=None):
        self.remaining -= 1
        if self.remaining == 0:
            os.kill(os.getpid(), self.signal)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--strategy", default="none")
    parser.add_argument("--checkpoint")
    parser.add_argument("--every", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--dies-at", type=int)
    parser.add_argument("--hangs", action="store_true", help="instead of dying")
    parser.add_argument("--timeout", type=int, default=600)
    options = parser.parse_args()
    strategy = training.strategy(options.strategy, timeout=options.timeout)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float64")
    data = training.digits(0)
    with strategy.scope():
        model = CifarResNet(
            8, input_shape=(8, 8, 1), norm_kwargs={"synchronized": True}
        )
        schedule = keras.optimizers.schedules.CosineDecay(0.05, STEPS)
        model.compile(
            keras.optimizers.SGD(schedule, momentum=0.9, global_clipnorm=1.0),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    x, y = (values[:SAMPLES] for values in data["train"])
    history = training.fit(
        model,
        x,
        y,
        batch_size=BATCH,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[Dies(options.dies_at, options.hangs)] if options.dies_at else None,
        validation_data=tuple(data["validation"]),
        checkpoint=options.checkpoint,
        checkpoint_every=options.every,
        resume=options.resume,
    ).history
    assert model.optimizer.iterations.numpy() == STEPS
    np.savez(
        options.output,
        chief=is_chief(strategy),
        loss=history["loss"],
        val_accuracy=history["val_accuracy"],
        **{
            f"weight {i:03d} {v.name}": keras.ops.convert_to_numpy(v.value)
            for i, v in enumerate(model.weights)
        },
    )


if __name__ == "__main__":
    main()
