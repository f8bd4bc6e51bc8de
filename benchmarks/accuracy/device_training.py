"""The training of `device.py`: rates tried, then all arms side by side."""

import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor

import gpu_tables
import jax
import numpy as np
from clock import clock, say
from device_programs import Arm, Data, Group, Programs

from keras_en.training.data import images, npz
from keras_en.training.recipes import recipe

# By how much an epoch may take longer than those before.
SPARE = 1.05
# Rounds behind which the epochs are chosen again: the rate has not fallen yet.
AGAIN = 2
# Seconds that the last tests and files take.
LAST = 12
# Of the networks that rates are tried with.
SEARCH_SEED = 100


def data_of(path, limit):
    """Training and test data of a file of `npz:`, images as they are there."""
    parts, few = npz.contents(path).parts, limit and limit // 5
    return [
        Data(parts[name].images[:most], parts[name].labels[:most].astype("int32"))
        for name, most in (("train", limit), ("test", few))
    ]


def decoded(data):
    """The same with images as an array."""
    if not isinstance(data.images, list):
        return data
    return data._replace(
        images=np.stack(images.in_threads(images.decoded, data.images))
    )


def recipe_of(arm, options, epochs=None):
    """The recipe, for so many epochs: rates fall at the same shares of them; the first
    is always that of the warm-up."""
    whole = recipe.load(options.recipe, [f"norm.name={arm}", *options.set])
    if epochs is None:
        return whole
    warmup = min(whole.schedule.warmup, epochs / 2)
    short = whole.lasting(epochs)
    schedule = dataclasses.replace(short.schedule, warmup=warmup)
    return dataclasses.replace(short, schedule=schedule)


class Training:
    """All of it; what is known so far is in `results`."""

    def __init__(self, options):
        self.options, self.pool = options, ThreadPoolExecutor(16)
        self.results = {
            **gpu_tables.machine(),
            "recipe": options.recipe,
            "set": options.set,
            "dtype": options.dtype,
            "seeds": options.seeds,
            "compiling": {},
            "milliseconds": {},
            "failures": {},
            "curves": {},
        }

    def write(self):
        self.results["seconds"] = clock()
        path = self.options.out / "accuracy.json"
        path.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")

    def prepare(self):
        """Data on the device; programs being compiled; what networks begin with."""
        options = self.options
        train, test = data_of(options.file, options.limit)
        decoding = [self.pool.submit(decoded, data) for data in (train, test)]
        count, classes = len(train.labels), int(train.labels.max()) + 1
        image = decoded(train._replace(images=train.images[:1])).images.shape[1:]
        shapes = Data(
            jax.ShapeDtypeStruct((count, *image), "uint8"), jax.typeof(train.labels)
        )
        self.arms, self.programs, self.compiling = {}, {}, {}
        for way in options.ways:
            for name in options.arms:
                if name not in self.arms:
                    recipe = recipe_of(name, options)
                    self.arms[name] = Arm(recipe, image, classes, count)
                key = name, way
                self.programs[key] = Programs(self.arms[name], way, len(options.seeds))
                lowered = self._attempt(key, self.programs[key].lower_training, shapes)
                if lowered is not None:
                    self.compiling[key] = self.pool.submit(self._compile, key, lowered)
                say("traced", *key)
        self.train, self.test = (jax.device_put(data.result()) for data in decoding)
        say("decoded", len(self.train.labels), len(self.test.labels))
        seeds = options.seeds + [SEARCH_SEED] * bool(options.search)
        self.states = {
            name: {seed: arm.initial(seed) for seed in seeds}
            for name, arm in self.arms.items()
        }
        say("networks built")

    def _attempt(self, key, function, *arguments):
        """Its result; a failure is noted, and costs no other program."""
        try:
            return function(*arguments)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:2000]
            self.results["failures"][", ".join(map(str, key))] = text
            say("failed:", *key, text[:500])
            return None

    def _compile(self, key, lowered):
        started = time.monotonic()
        compiled = lowered.compile()
        seconds = time.monotonic() - started
        self.results["compiling"][", ".join(key)] = round(seconds, 1)
        say("compiled", *key, f"in {seconds:.1f} s")
        return compiled

    def choose(self):
        """The fastest way of every arm, by a few calls of each."""
        fastest, seeds = {}, self.options.seeds
        for key, future in self.compiling.items():
            left = max(1.0, self.options.budget * 0.45 - clock())
            compiled = self._attempt(key, future.result, left)
            if compiled is None:
                continue
            name, way = key
            seconds = self._attempt((*key, "run"), self._measured, key, compiled)
            if seconds is None:
                continue
            milliseconds = self.results["milliseconds"].setdefault(name, {})
            milliseconds[way] = 1000 * seconds
            say(f"{name}, {way}: {1000 * seconds:.2f} ms a step of {len(seeds)} seeds")
            if seconds < fastest.get(name, (np.inf,))[0]:
                fastest[name] = seconds, way, compiled
        self.fastest = fastest
        missing = [name for name in self.arms if name not in fastest]
        if missing:
            say("nothing runs of", *missing)

    def _measured(self, key, compiled):
        """Seconds of a step of all seeds."""
        arm, seeds = self.programs[key].arm, self.options.seeds
        count = len(self.train.images)
        group = next(self._groups(*key, compiled, seeds, count))[1]
        rates = np.zeros((len(group.seeds), arm.steps(count)), "float32")
        group.run(0, rates, 1)
        calls = min(2, arm.steps(count) // arm.chunk)
        seconds = group.run(0, rates, calls) / (calls * arm.chunk)
        return seconds * len(seeds) / len(group.seeds)

    def _groups(self, name, way, compiled, seeds, count):
        """Of each group of networks which they are, and the group."""
        programs = self.programs[name, way]
        for i in range(0, len(seeds), programs.seeds):
            own = slice(i, i + programs.seeds)
            states = [self.states[name][seed] for seed in seeds[own]]
            few = (seeds[own], self.train, count)
            yield own, Group(programs, compiled, states, *few)

    def _start(self, seeds, count):
        """Networks of these seeds, to be trained on so many images."""
        self.count, self.groups = count, []
        for name, (_, way, compiled) in self.fastest.items():
            groups = self._groups(name, way, compiled, seeds, count)
            self.groups += [(name, own, group) for own, group in groups]

    def _round(self, epoch, rates):
        """An epoch of every group."""
        for name, own, group in self.groups:
            group.seconds += group.run(epoch, rates[name][own, epoch])

    def _rates(self, epochs, peaks):
        """`{arm: (networks, epochs, steps)}`, of networks with these rates each."""
        result = {}
        for name in self.fastest:
            recipe = recipe_of(name, self.options, epochs)
            one = self.arms[name].rates(recipe, self.count)
            shares = np.array(peaks[name]) / recipe.optimizer.learning_rate
            result[name] = np.float32(shares[:, None, None] * one)
        return result

    def prepare_tests(self):
        """Those programs, being compiled."""
        self.tests, self.testing = {}, {}
        shapes = jax.tree.map(jax.typeof, self.test)
        for name, (_, way, _) in self.fastest.items():
            key, programs = (name, "test"), self.programs[name, way]
            lowered = self._attempt(key, programs.lower_evaluation, shapes)
            self.testing[name] = self.pool.submit(self._compile, key, lowered)

    def search(self):
        """The learning rate of every arm: the best on images that are held out."""
        options, tried = self.options, self.options.search
        if not tried:
            self.peaks = {
                name: recipe_of(name, options).optimizer.learning_rate
                for name in self.fastest
            }
            return
        count = len(self.train.images) - len(self.test.images)
        held = jax.tree.map(lambda t: t[count:], self.train)
        self._start([SEARCH_SEED] * len(tried), count)
        rates = self._rates(options.search_epochs, dict.fromkeys(self.fastest, tried))
        for epoch in range(options.search_epochs):
            self._round(epoch, rates)
        tops = {name: {} for name in self.fastest}
        for name, own, one in self._tested(held):
            tops[name] |= zip(tried[own], [o["accuracy"] for o in one], strict=True)
        self.peaks = {name: max(top, key=top.get) for name, top in tops.items()}
        self.results["search"] = {
            "epochs": options.search_epochs,
            "seed": SEARCH_SEED,
            "images": [count, len(held.images)],
            "accuracy": tops,
            "best": self.peaks,
        }
        say("rates:", tops, self.peaks)

    def epochs_for(self, seconds, left):
        """The largest number of epochs that fits."""
        fitting = [n for n in self.options.epochs if n * seconds * SPARE <= left]
        return max(fitting, default=min(self.options.epochs))

    def run(self):
        """Rounds of an epoch of every group."""
        seeds, count = self.options.seeds, len(self.train.images)
        self._start(seeds, count)
        steps = {name: self.arms[name].steps(count) for name in self.fastest}
        a_round = sum(s * self.fastest[n][0] for n, s in steps.items())
        left = self.options.budget - LAST
        epochs = self.epochs_for(a_round, left - clock())
        done, started = 0, clock()
        while done < epochs:
            if done in (0, AGAIN):
                if done:
                    a_round = (clock() - started) / done
                    epochs = self.epochs_for(a_round, left - started)
                say(f"{epochs} epochs of {a_round:.2f} s, seeds {seeds}")
                self.results["epochs"] = epochs
                peaks = {name: [p] * len(seeds) for name, p in self.peaks.items()}
                rates = self._rates(epochs, peaks)
            self._round(done, rates)
            done += 1
            late = clock() > left
            if done == epochs or done % self.options.every == 0 or late:
                self._test_all(done)
            if late:
                say("out of time")
                break
        self.results["finished"] = done == epochs
        for name, _, group in self.groups:
            seconds = self.results.setdefault("training seconds", {})
            seconds[name] = seconds.get(name, 0) + group.seconds

    def _tested(self, data):
        """Of each group its arm, which networks they are, and their numbers."""
        for name, own, group in self.groups:
            if name not in self.tests:
                self.tests[name] = self.testing[name].result()
            yield name, own, group.accuracy(self.tests[name], data)

    def _test_all(self, done):
        for name, own, numbers in self._tested(self.test):
            for seed, one in zip(self.options.seeds[own], numbers, strict=True):
                curves = self.results["curves"].setdefault(name, {})
                curves.setdefault(str(seed), []).append({"epoch": done, **one})
            shown = [f"{one['accuracy']:.4f}" for one in numbers]
            loss = np.mean([one["loss"] for one in numbers])
            say(f"epoch {done}, {name}, loss {loss:.4f}:", *shown)
        self.write()

    def save(self):
        """The weights of every arm, in a file each."""
        for name in self.fastest:
            parts = [g.weights() for other, _, g in self.groups if other == name]
            joined = {
                path: np.concatenate([p[path] for p in parts]) for path in parts[0]
            }
            np.savez_compressed(self.options.out / f"weights_{name}.npz", **joined)
