"""Table 5's ResNet-20 on CIFAR-10 on one GPU: BN, SN, EN, several seeds side by side.

    python benchmarks/accuracy/device.py FILE.npz --out SEARCH --search 0.05 0.1 0.2
    python benchmarks/accuracy/device.py FILE.npz --out FOLDER --rates SEARCH
    python benchmarks/accuracy/device.py --tables FOLDER

Everything else is what the recipe says. All forms but the last measure the ways to run
the networks side by side and take the fastest of each arm. The first tries a learning
rate with each network, on all training images but as many held-out ones as there are
test images. The second takes the best rate of every arm, without `--rates` the recipe's
for all, and as many of `--epochs` as fit into `--budget` seconds since its start, in all
arms the same; it writes `accuracy.json` whenever networks were tested, and the final
weights. All arms go on together, an epoch each, so that what is there is paired at any
time. The last writes `results/gpu_accuracy.md`.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The folder above, of what all benchmarks share.
sys.path.append(str(Path(__file__).parents[1]))

import device_tables
import gpu_tables
import numpy as np
from clock import clock, say

EPOCHS = (165, 150, 135, 120, 105, 90, 75, 60, 50, 40, 30, 20, 15)
ARMS = ("bn", "sn", "en")
SPARE = 1.1
# Rounds behind which the epochs are chosen again: the rate has not fallen yet.
AGAIN = 2
# Seconds that the last tests and files take.
LAST = 12
# Of the networks that rates are tried with.
SEARCH_SEED = 100


def arrays_of(path, limit):
    """Training and test data of a file of `npz:`, decoded."""
    from device_programs import Data

    from keras_en.training.data import images, npz

    parts = npz.contents(path).parts
    result = []
    for name, limit in (("train", limit), ("test", limit and limit // 5)):
        part = parts[name]
        values, labels = part.images[:limit], part.labels[:limit]
        if isinstance(values, list):
            values = np.stack(images.in_threads(images.decoded, values))
        result.append(Data(values, labels.astype("int32")))
    say("decoded", *(len(data.images) for data in result))
    return result


def recipe_of(arm, options, epochs=None):
    """The recipe, for so many epochs: rates fall at the same shares of them; the first
    is always that of the warm-up."""
    import dataclasses

    from keras_en.training.recipes import recipe

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
        import jax
        from device_programs import Arm, Programs

        options = self.options
        decoding = self.pool.submit(arrays_of, options.file, options.limit)
        self.arms, self.programs, self.compiling = {}, {}, {}
        shapes = None
        for way in options.ways:
            for name in options.arms:
                if shapes is None:
                    data = decoding.result()
                    shapes = jax.tree.map(jax.typeof, data[0])
                    count, *image = data[0].images.shape
                    classes = int(data[0].labels.max()) + 1
                if name not in self.arms:
                    recipe = recipe_of(name, options)
                    self.arms[name] = Arm(recipe, tuple(image), classes, count)
                key = name, way
                self.programs[key] = Programs(self.arms[name], way, len(options.seeds))
                lowered = self._attempt(key, self.programs[key].lower_training, shapes)
                if lowered is not None:
                    self.compiling[key] = self.pool.submit(self._compile, key, lowered)
                say("traced", *key)
        self.train, self.test = jax.device_put(tuple(data))
        self.count = len(self.train.images)
        if options.search:
            self.count -= len(self.test.images)
            own = slice(self.count, None)
            self.test = jax.tree.map(lambda t: t[own], self.train)
        seeds = sorted(set(options.seeds))
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
        group = next(self._groups(*key, compiled))[1]
        rates = np.zeros((len(group.seeds), arm.steps(self.count)), "float32")
        group.run(0, rates, 1)
        calls = min(2, arm.steps(self.count) // arm.chunk)
        seconds = group.run(0, rates, calls) / (calls * arm.chunk)
        return seconds * len(seeds) / len(group.seeds)

    def _groups(self, name, way, compiled):
        """Numbers of the networks of a group, and the group."""
        from device_programs import Group

        programs, seeds = self.programs[name, way], self.options.seeds
        for i in range(0, len(seeds), programs.seeds):
            own = slice(i, i + programs.seeds)
            states = [self.states[name][seed] for seed in seeds[own]]
            few = (seeds[own], self.train, self.count)
            yield own, Group(programs, compiled, states, *few)

    def start(self):
        """The groups, and the programs that test them."""
        self.groups, self.tests, self.testing = [], {}, {}
        shapes = self._shapes_of_test()
        for name, (_, way, compiled) in self.fastest.items():
            programs = self.programs[name, way]
            lowered = self._attempt((name, "test"), programs.lower_evaluation, shapes)
            self.testing[name] = self.pool.submit(
                self._compile, (name, "test"), lowered
            )
            groups = self._groups(name, way, compiled)
            self.groups += [(name, own, group) for own, group in groups]
        self.peaks = self._peaks()

    def _peaks(self):
        """`{arm: the learning rate of each network}`."""
        options, result = self.options, {}
        best = device_tables.best_rates(options.rates) if options.rates else {}
        for name in self.fastest:
            own = best.get(name, recipe_of(name, options).optimizer.learning_rate)
            result[name] = options.search or [own] * len(options.seeds)
        self.results["rates"] = result
        return result

    def _rates(self, name, epochs):
        """`(networks, epochs, steps)`."""
        recipe = recipe_of(name, self.options, epochs)
        one = self.arms[name].rates(recipe, self.count)
        shares = np.array(self.peaks[name]) / recipe.optimizer.learning_rate
        return np.float32(shares[:, None, None] * one)

    def _shapes_of_test(self):
        import jax

        return jax.tree.map(jax.typeof, self.test)

    def epochs_for(self, seconds, left):
        """The largest number of epochs that fits."""
        fitting = [n for n in self.options.epochs if n * seconds * SPARE <= left]
        return max(fitting, default=min(self.options.epochs))

    def run(self):
        """Rounds of an epoch of every group."""
        steps = {name: self.arms[name].steps(self.count) for name in self.fastest}
        a_round = sum(s * self.fastest[n][0] for n, s in steps.items())
        left = self.options.budget - LAST
        epochs = self.epochs_for(a_round, left - clock())
        done, started = 0, clock()
        while done < epochs:
            if done in (0, AGAIN):
                if done:
                    a_round = (clock() - started) / done
                    epochs = self.epochs_for(a_round, left - started)
                say(f"{epochs} epochs of {a_round:.2f} s, {self.options.seeds} seeds")
                self.results["epochs"] = epochs
                rates = {name: self._rates(name, epochs) for name in self.fastest}
            for name, own, group in self.groups:
                group.seconds += group.run(done, rates[name][own, done])
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
        self.write()

    def _test_all(self, done):
        keys = self.options.search or self.options.seeds
        for name, own, group in self.groups:
            if name not in self.tests:
                self.tests[name] = self.testing[name].result()
            numbers = group.accuracy(self.tests[name], self.test)
            for key, one in zip(keys[own], numbers, strict=True):
                curves = self.results["curves"].setdefault(name, {})
                curves.setdefault(str(key), []).append({"epoch": done, **one})
            shown = [f"{one['accuracy']:.4f}" for one in numbers]
            say(f"epoch {done}, {name}, loss {group.losses.mean():.4f}:", *shown)
        self.write()

    def save(self):
        """The weights of every arm, in a file each."""
        for name in self.fastest:
            parts = [g.weights() for other, _, g in self.groups if other == name]
            joined = {
                path: np.concatenate([p[path] for p in parts]) for path in parts[0]
            }
            np.savez_compressed(self.options.out / f"weights_{name}.npz", **joined)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="CIFAR-10 as arrays or packed JPEG")
    parser.add_argument("--out", type=Path, default=Path("build/accuracy"))
    parser.add_argument("--tables", type=Path, help="write the page of this folder")
    parser.add_argument("--budget", type=float, default=420, metavar="SECONDS")
    parser.add_argument("--recipe", default="cifar10_resnet20")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument("--ways", nargs="+", default=("dense", "single"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--search", nargs="+", type=float, metavar="RATE")
    parser.add_argument("--rates", type=Path, metavar="SEARCH", help="its folder")
    parser.add_argument("--epochs", nargs="+", type=int, default=EPOCHS)
    parser.add_argument("--every", type=int, default=10, help="epochs between tests")
    parser.add_argument("--limit", type=int, help="the first so many images")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    if not (options.file or options.tables):
        parser.error("FILE.npz or --tables FOLDER is needed")
    if options.search:
        options.seeds = [SEARCH_SEED] * len(options.search)
    return options


def main():
    options = parsed()
    if options.tables:
        return device_tables.write(options.tables)
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    if options.dtype != "float32":
        keras.config.set_dtype_policy(f"mixed_{options.dtype}")
    options.out.mkdir(parents=True, exist_ok=True)
    training = Training(options)
    say("imported")
    for part in (training.prepare, training.choose, training.start, training.run):
        part()
        training.write()
    if not options.search:
        training.save()
    say("done")
    sys.stdout.flush()
    # A program that is still being compiled would be waited for.
    os._exit(0 if training.results["finished"] else 1)


if __name__ == "__main__":
    main()
