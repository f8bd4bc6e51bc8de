"""Images a second of `keras-en train`, as ratios to its compiled step alone.

    KERAS_EN_DATA=... python benchmarks/train_speed.py [RECIPE] [--images 2560]
    KERAS_EN_DATA=... KERAS_BACKEND=jax python benchmarks/train_speed.py

In turn: the compiled training step on one batch in memory, again and again; an epoch of
the training that the command runs, with all it does beside but validation; the input
pipeline alone. Everything is compiled before.
"""

import argparse
import itertools
import tempfile
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
    epochs = itertools.count()
    with (
        experiment.prepared(recipe, settings, writes=False) as ready,
        tempfile.TemporaryDirectory() as folder,
    ):
        images, model = ready.material, ready.model
        batch = tuple(np.asarray(part) for part in next(iter(images.train(0))))
        other = build.build(recipe, images.facts, images.steps)
        steps = bare_step(other, batch)
        tensorboard = TensorBoard(Path(folder), batch[0][: experiment.PROBE])
        data = keras_loop.Batches(images.train)

        def train():
            """An epoch, with what the command has beside."""
            epoch = next(epochs)
            progress = Progress(images.images, recipe.data.batch_size, Silent())
            callbacks = [progress, tensorboard]
            if keras.backend.backend() == "tensorflow":
                loop.fit(model, lambda _: images.train(epoch), callbacks=callbacks)
                return
            data.epoch = epoch
            model.fit(data, callbacks=callbacks, verbose=0)

        calls = {
            "step alone": lambda: steps(images.steps),
            "keras-en train": train,
            "pipeline alone": lambda: [None for _ in images.train(next(epochs))],
        }
        times = timing.interleave(calls, options.rounds)
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
