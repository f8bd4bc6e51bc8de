"""Images a second of `keras-en train`, as ratios to its compiled step alone.

    KERAS_EN_DATA=... python benchmarks/train_speed.py [RECIPE] [--images 2560]
    KERAS_EN_DATA=... KERAS_BACKEND=jax python benchmarks/train_speed.py

In turn, in one training: the compiled training step on one batch in memory, again and
again; an epoch of the training that the command runs, with all it does beside but
validation; the input pipeline alone. The first epoch, which is compiled, does not
count.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import timing

from keras_en.training import build, experiment, keras_loop, keras_private, loop
from keras_en.training.monitor import TensorBoard
from keras_en.training.progress import Progress
from keras_en.training.recipes import recipe as recipes


class Silent:
    def write(self, text):
        pass

    def flush(self):
        pass


class Alternate(keras.callbacks.Callback):
    """Times the epochs but the first, which is compiled, and behind each the step alone
    and the pipeline alone."""

    def __init__(self, steps, images, rounds):
        super().__init__()
        self.steps, self.images = steps, images
        names = ("step alone", "keras-en train", "pipeline alone")
        self.times = {name: np.zeros(rounds) for name in names}

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        train = time.perf_counter() - self.started
        calls = {
            "step alone": lambda: self.steps(self.images.steps),
            "pipeline alone": lambda: [None for _ in self.images.train(epoch)],
        }
        if epoch == 0:
            calls["step alone"]()
            return
        self.times["keras-en train"][epoch - 1] = train
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            self.times[name][epoch - 1] = time.perf_counter() - started


def bare_step(model, batch):
    """A function of a number of steps on one batch; what the backend's own trainer
    compiles."""
    if keras.backend.backend() == "tensorflow":
        from keras_en.training.steps import Run

        run, (x, y) = Run(model), batch
        with run.training():
            run.train((x, y, None), 0, 0)

        def steps(count):
            with run.training():
                for _ in range(count):
                    logs = run.train((x, y, None), 0, 0)
            float(logs["loss"])

        return steps
    import jax

    keras_private.build(model, batch)
    x, y = map(jax.numpy.asarray, batch)

    @jax.jit
    def step(trainable, others, state, x, y):
        def loss(trainable):
            outputs, new = model.stateless_call(trainable, others, x, training=True)
            return model.loss(y, outputs), new

        gradients, new = jax.grad(loss, has_aux=True)(trainable)
        trainable, state = model.optimizer.stateless_apply(state, gradients, trainable)
        return trainable, new, state

    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
    )
    state = [[jax.numpy.array(v.value) for v in group] for group in variables]

    def steps(count):
        nonlocal state
        for _ in range(count):
            state = step(*state, x, y)
        jax.block_until_ready(state)

    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="small_cifar10")
    parser.add_argument("--norm", default="en")
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    overrides = [f"norm.name={options.norm}", f"data.limit_train={options.images}"]
    recipe = recipes.load(options.recipe, overrides)
    settings = experiment.Settings(output=Path("unused"))
    with (
        experiment.prepared(recipe, settings, writes=False) as ready,
        tempfile.TemporaryDirectory() as folder,
    ):
        images, model = ready.material, ready.model
        batch = tuple(np.asarray(part) for part in next(iter(images.train(0))))
        other = build.build(recipe, images.facts, images.steps)
        steps = bare_step(other, batch)
        tensorboard = TensorBoard(Path(folder), batch[0][: experiment.PROBE])
        alternate = Alternate(steps, images, options.rounds)
        progress = Progress(images.images, recipe.data.batch_size, Silent())
        callbacks = [progress, tensorboard, alternate]
        epochs = 1 + options.rounds
        if keras.backend.backend() == "tensorflow":
            loop.fit(model, images.train, epochs=epochs, callbacks=callbacks)
        else:
            data = keras_loop.Batches(images.train)
            options = {"shuffle": False, "verbose": 0}
            model.fit(data, epochs=epochs, callbacks=callbacks, **options)
        times = alternate.times
    base = times["step alone"]
    name = f"train_speed_{keras.backend.backend()}"
    lines = ["| | images/s | ratio to the step alone |", "|---|---|---|"]
    for what, values in times.items():
        rate = images.images / np.median(values)
        ratio = timing.ratio(base, values)
        lines.append(f"| {what} | {rate:,.0f} | {ratio:.3f} |")
    title = f"Training by recipe {recipe.name}, {recipe.norm.name}: images a second"
    timing.write(name, title, lines)


if __name__ == "__main__":
    main()
