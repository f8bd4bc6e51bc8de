"""A training of a recipe as programs that keep a GPU busy: data resident on it, images
augmented there, a loop over steps inside, several seeds side by side. JAX only."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from quick_weights import drawn_by_numpy
from stacked import dense_convolutions

from keras_en.analysis.collect import exemplar_layers
from keras_en.layers.recording import recording
from keras_en.training import build
from keras_en.training.data.augmentation import Transform
from keras_en.training.data.transformations import Flip, PadCrop

# Steps of one call at most.
STEPS = 39
TESTED = 500


class Data(NamedTuple):
    """Images `(N, H, W, 3)`, uint8, and labels `(N,)`, int32."""

    images: Any
    labels: Any


class State(NamedTuple):
    trainable: list
    others: list
    slots: list


class Arm:
    """One normalization.

    Args:
        recipe: With that normalization.
        count: Training images.
    """

    def __init__(self, recipe, image_shape, classes, count):
        self.recipe, self.count = recipe, count
        self.batch = recipe.data.batch_size
        whole = count // self.batch
        # Fewer images, of a search, are to make whole calls, too.
        most = max(1, min(STEPS, whole // 2))
        self.chunk = max(n for n in range(1, most + 1) if whole % n == 0)
        self._facts = build.Facts(classes, image_shape)
        self.model = self._built(0)
        self.loss = self.model.loss
        config = self.model.optimizer.get_config()
        # Its rate is a variable here, so that one program serves every schedule.
        config["learning_rate"] = recipe.optimizer.learning_rate
        self.optimizer = type(self.model.optimizer).from_config(config)
        self.optimizer.build(self.model.trainable_variables)
        rate = self.optimizer.learning_rate
        places = [v is rate for v in self.optimizer.variables]
        self._rate = places.index(True)
        self._train = Transform.of(recipe.data.train)
        self._evaluate = Transform.of(recipe.data.evaluate)
        kinds = tuple(map(type, self._train.steps))
        if kinds != (PadCrop, Flip) or self._evaluate.steps:
            raise ValueError(f"data.train must be pad_crop, flip. Received: {kinds}")

    def _built(self, seed):
        keras.utils.set_random_seed(seed)
        with jax.default_device(jax.devices("cpu")[0]), drawn_by_numpy():
            model = build.build(self.recipe, self._facts, self.steps(self.count))
            kinds = (keras.layers.Conv2D, keras.layers.Dense)
            layers = [layer for layer in model.layers if isinstance(layer, kinds)]
            for number, layer in enumerate(layers):
                # The same in every arm, whatever else its layers draw.
                own = np.random.SeedSequence([seed, number]).generate_state(1)[0]
                kind = layer.kernel_initializer
                config = {**kind.get_config(), "seed": int(own >> 1)}
                initializer = type(kind).from_config(config)
                layer.kernel.assign(initializer(layer.kernel.shape))
        return model

    def steps(self, count):
        """Of an epoch of so many images: whole calls.

        A last batch of fewer images would be a program of its own; the order changes
        with every epoch.
        """
        return count // self.batch // self.chunk * self.chunk

    def rates(self, recipe, count):
        """The learning rate of every step of a recipe, `(epochs, steps)`."""
        steps = self.steps(count)
        epochs = recipe.schedule.epochs(steps)
        config = build.optimizer(recipe, steps).get_config()
        schedule = keras.optimizers.schedules.deserialize(config["learning_rate"])
        with jax.default_device(jax.devices("cpu")[0]):
            rates = jax.vmap(schedule)(jnp.arange(epochs * steps))
        return np.asarray(rates, "float32").reshape(epochs, steps)

    def order(self, seed, epoch, count):
        """Numbers of the first `count` images as an epoch takes them, `(calls, chunk,
        batch)`."""
        rng = np.random.default_rng([seed, epoch])
        size = self.steps(count) * self.batch
        rows = rng.permutation(count)[:size].astype("int32")
        return rows.reshape(-1, self.chunk, self.batch)

    def initial(self, seed):
        """The state that a training begins with, in NumPy."""
        model = self._built(seed)
        parts = (
            model.trainable_variables,
            model.non_trainable_variables,
            self.optimizer.variables,
        )
        return State(*([np.asarray(v.value) for v in part] for part in parts))

    def train(self, state, key, data, first, rows, rates):
        """`chunk` steps behind `first` others, on images of these numbers, `(chunk,
        batch)`: the state, and mean loss."""
        numbers = first + jnp.arange(self.chunk)

        def step(state, inputs):
            rows, number, rate = inputs
            x = self._augmented(data.images, rows, jax.random.fold_in(key, number))
            return self._step(state, x, data.labels[rows], rate)

        state, losses = jax.lax.scan(step, state, (rows, numbers, rates))
        return state, losses.mean()

    def _step(self, state, x, y, rate):
        def loss(trainable):
            outputs, others = self.model.stateless_call(
                trainable, state.others, x, training=True
            )
            return self.loss(y, outputs), others

        (value, others), slopes = jax.value_and_grad(loss, has_aux=True)(
            state.trainable
        )
        slots = list(state.slots)
        slots[self._rate] = rate
        trainable, slots = self.optimizer.stateless_apply(
            slots, slopes, state.trainable
        )
        return State(list(trainable), list(others), list(slots)), value

    def _augmented(self, images, rows, key):
        far = self._train.steps[0].pixels
        height, width = images.shape[1:3]
        shift, turn = jax.random.split(key)
        moves = jax.random.randint(shift, (2, len(rows), 1), -far, far + 1)
        down, right = moves + jnp.arange(max(height, width))
        turned = jax.random.bernoulli(turn, 0.5, (len(rows), 1))
        down, right = down[:, :height, None], right[:, :width]
        right = jnp.where(turned, right[:, ::-1], right)[:, None]
        inside = (down >= 0) & (down < height) & (right >= 0) & (right < width)
        down, right = jnp.clip(down, 0, height - 1), jnp.clip(right, 0, width - 1)
        x = images[rows[:, None, None], down, right]
        return self._scaled(jnp.where(inside[..., None], x, 0), self._train)

    @staticmethod
    def _scaled(x, transform):
        factor, summand = transform.scaling(255)
        return x.astype("float32") * factor + summand

    def evaluate(self, trainable, others, data):
        """Accuracy by moving statistics and by those of batches; mean ratios."""
        layers = exemplar_layers(self.model)

        def step(_, batch):
            x = self._scaled(batch.images, self._evaluate)

            def is_right(training):
                y, _ = self.model.stateless_call(
                    trainable, others, x, training=training
                )
                return (y.argmax(-1) == batch.labels).mean()

            with recording(layers) as recorded:
                moving = is_right(False)
            shares = {path: calls[0].mean(0) for path, calls in recorded.items()}
            return None, (moving, is_right(True), shares)

        size = TESTED if len(data.images) % TESTED == 0 else len(data.images)
        parts = jax.tree.map(lambda t: t.reshape(-1, size, *t.shape[1:]), data)
        _, results = jax.lax.scan(step, None, parts)
        return jax.tree.map(lambda t: t.mean(0), results)


class Programs:
    """Those of an arm, one way.

    Args:
        way: "single" for networks one after the other, "dense" for all in one program.
        seeds: How many networks it trains at once.
    """

    def __init__(self, arm, way, seeds):
        self.arm, self.way = arm, way
        self.seeds = 1 if way == "single" else seeds
        # The first axis of everything that each network has.
        self.many = () if way == "single" else (seeds,)

    def state(self, states):
        """On the device, of as many states of NumPy."""
        if self.way == "single":
            return jax.device_put(states[0])
        return jax.device_put(jax.tree.map(lambda *t: np.stack(t), *states))

    def keys(self, seeds):
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return keys[0] if self.way == "single" else keys

    def lower_training(self, data):
        """To compile: a function of state, keys, data, steps before, rows, rates."""
        arm, arguments = self.arm, self._shapes()
        rates = jax.ShapeDtypeStruct((*self.many, arm.chunk), "float32")
        rows = jax.ShapeDtypeStruct((*self.many, arm.chunk, arm.batch), "int32")
        number = jax.ShapeDtypeStruct((), "int32")
        train = self._mapped(arm.train, (0, 0, None, None, 0, 0))
        keys = jax.eval_shape(lambda: self.keys(range(self.seeds)))
        program = jax.jit(lambda *a: train(*a), donate_argnums=0)
        with dense_convolutions():
            return program.lower(arguments, keys, data, number, rows, rates)

    def lower_evaluation(self, data):
        """To compile: a function of trainable and other weights and data."""
        state, evaluate = self._shapes(), self.arm.evaluate
        if self.way != "single":
            # One after the other compiles in seconds, side by side in minutes.
            def evaluate(trainable, others, data):
                return jax.lax.map(
                    lambda state: self.arm.evaluate(*state, data), (trainable, others)
                )

        return jax.jit(evaluate).lower(state.trainable, state.others, data)

    def _mapped(self, function, axes):
        return function if self.way == "single" else jax.vmap(function, axes)

    def _shapes(self):
        """Those of a state."""
        model, optimizer = self.arm.model, self.arm.optimizer
        parts = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
        return State(
            *(
                [
                    jax.ShapeDtypeStruct((*self.many, *v.shape), v.value.dtype)
                    for v in part
                ]
                for part in parts
            )
        )


class Group:
    """Networks of an arm that are trained by one program at once, on the first `count`
    images."""

    def __init__(self, programs, compiled, states, seeds, data, count):
        self.programs, self.compiled, self.seeds = programs, compiled, seeds
        self.state, self.count = programs.state(states), count
        self.keys, self.data = programs.keys(seeds), data
        self.losses, self.seconds = [], 0.0

    def run(self, epoch, rates, calls=None):
        """An epoch by the rates of each network, `(networks, steps)`, or so many calls
        of the program; seconds."""
        arm, started = self.programs.arm, time.monotonic()
        rows = np.stack([arm.order(seed, epoch, self.count) for seed in self.seeds], 1)
        rates = rates.reshape(len(self.seeds), -1, arm.chunk).swapaxes(0, 1)
        done, losses = epoch * arm.steps(self.count), []
        for i in range(len(rows))[:calls]:
            few = (rows[i], rates[i])
            if self.programs.way == "single":
                few = [part[0] for part in few]
            number = np.int32(done + i * arm.chunk)
            self.state, loss = self.compiled(
                self.state, self.keys, self.data, number, *few
            )
            losses.append(loss)
        self.losses = np.mean([np.atleast_1d(loss) for loss in losses], axis=0)
        return time.monotonic() - started

    def accuracy(self, compiled, data):
        """A dictionary for each seed."""
        results = compiled(self.state.trainable, self.state.others, data)
        moving, batch, ratios = self._by_seed(results)
        return [
            {
                "loss": float(self.losses[i]),
                "accuracy": float(moving[i]),
                "by batches": float(batch[i]),
                "ratios": {path: share[i].tolist() for path, share in ratios.items()},
            }
            for i in range(len(self.seeds))
        ]

    def _by_seed(self, results):
        if self.programs.way == "single":
            return jax.tree.map(lambda t: [np.asarray(t)], results)
        return jax.tree.map(np.asarray, results)

    def weights(self):
        """`{name: (seeds, ...)}`, float32."""
        model = self.programs.arm.model
        many = self.programs.way != "single"
        return {
            variable.path: np.asarray(value) if many else np.asarray(value)[None]
            for variables, values in (
                (model.trainable_variables, self.state.trainable),
                (model.non_trainable_variables, self.state.others),
            )
            for variable, value in zip(variables, values, strict=True)
        }
