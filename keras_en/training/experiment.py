"""A training with a recipe: from its data to the files of its folder."""

import contextlib
import csv
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras

from keras_en import files
from keras_en.arguments import check
from keras_en.training import build, checkpoints, keras_loop, loop, strategies
from keras_en.training.evaluation import Scores, evaluate
from keras_en.training.material import Material, material
from keras_en.training.recalibration import check_layers, recalibrate
from keras_en.training.recipes.recipe import Recipe, load

# Of the parts of a recipe those that a run may go on with changed: a schedule is of
# the learning rate, which no checkpoint holds either.
_FREE = ("name", "about", "schedule", "seeds")
RECIPE, MODEL, HISTORY, RUN = "recipe.yaml", "model.keras", "history.csv", "run.json"
FILES = (RECIPE, RUN, HISTORY, MODEL, checkpoints.NAME)
PRECISIONS = ("float32", "float16", "bfloat16")
Network = Callable[[Recipe, build.Facts, int], keras.Model]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What settles a training beside its recipe.

    Attributes:
        output: Folder of the run, which every worker can read.
        seed: Of weights, order and augmentation.
        strategy, replicas: See `keras_en.training.strategy`. On JAX "mirrored" is
            `keras.distribution.DataParallel` over `replicas` devices.
        checkpoint_every, resume, verbose: See `keras_en.training.fit`.
        jit: Whether XLA compiles the steps; `None`: as Keras decides.
        deterministic: Whether operations that may differ from run to run are refused
            or replaced.
        precision: One of `PRECISIONS`; the half ones are mixed.
        data_dir, skip_broken: See `keras_en.training.data.load`.
        network: Function of the recipe, `build.Facts` and the number of training steps
            to a network that is not compiled; `None`: that of the recipe.
        command: What a user has typed, for the report.
    """

    output: Path
    seed: int = 0
    strategy: str = "none"
    replicas: int | None = None
    checkpoint_every: int | None = None
    resume: bool | Literal["force"] = False
    verbose: int | str = "auto"
    jit: bool | None = None
    deterministic: bool = False
    precision: str = "float32"
    data_dir: str | None = None
    skip_broken: bool = False
    network: Network | None = None
    command: str = ""


@dataclass(frozen=True)
class Results:
    """Of a training.

    Attributes:
        chief: Whether this is the process that wrote; others have no scores.
        scores: On the test images.
        history: As of `keras.callbacks.History`.
    """

    chief: bool
    scores: Scores | None
    history: dict[str, list]


@dataclass(frozen=True)
class Experiment:
    """A training that is ready to begin: images are there, the network is compiled."""

    recipe: Recipe
    settings: Settings
    material: Material
    model: keras.Model
    chief: bool

    @property
    def epochs(self) -> int:
        """Number of the epoch after the last."""
        return self.recipe.schedule.epochs(self.material.steps)


def train(recipe: Recipe, settings: Settings) -> Results:
    """Trains the network of a recipe and writes its folder.

    Every worker calls this. The folder holds a checkpoint after every epoch, and at the
    end `model.keras`, `history.csv` and `recipe.yaml`.

    Raises:
        FileExistsError: The folder holds a run and `resume` is `False`, or other files.
        FloatingPointError: The loss is not finite, see `keras_en.training.fit`.
        RuntimeError: A package is missing, or a worker is gone.
        ValueError: Recipe, data and settings do not fit, see there.
    """
    with prepared(recipe, settings) as experiment:
        history = _fit(experiment)
        return _finish(experiment, history)


@contextlib.contextmanager
def prepared(recipe: Recipe, settings: Settings, writes: bool = True):
    """Yields an `Experiment`; nothing is written.

    Args:
        recipe: `Recipe`.
        settings: `Settings`.
        writes: Whether the folder is looked at.
    """
    check(settings.precision in PRECISIONS, "precision", PRECISIONS, settings.precision)
    with contextlib.ExitStack() as stack:
        # First: TensorFlow must not have touched a device yet.
        strategy = stack.enter_context(_distributed(settings))
        chief = strategies.is_chief(strategy)
        if writes and chief:
            _check_folder(settings)
        if writes:
            _check_same(recipe, settings)
        stack.enter_context(_policy(settings.precision))
        keras.utils.set_random_seed(settings.seed)
        if settings.deterministic:
            _make_deterministic()
        images = material(
            recipe, settings.seed, settings.data_dir, settings.skip_broken
        )
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = _compiled(recipe, settings, images)
        if recipe.statistics.recalibrate:
            check_layers(model)
        yield Experiment(recipe, settings, images, model, chief)


@contextlib.contextmanager
def _distributed(settings):
    """Inside, the devices are those of the settings; yields a strategy of TensorFlow's,
    or `None` on other backends."""
    if keras.backend.backend() == "tensorflow":
        yield strategies.strategy(settings.strategy, settings.replicas)
        return
    several = settings.strategy == "mirrored" and keras.backend.backend() == "jax"
    if settings.strategy != "none" and not several:
        raise RuntimeError(
            f"--strategy {settings.strategy} needs the TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if not several:
        check(settings.replicas is None, "replicas", "None", settings.replicas)
        yield None
        return
    devices = keras.distribution.list_devices()
    count = settings.replicas or len(devices)
    check(count <= len(devices), "replicas", f"at most {len(devices)}", count)
    distribution = keras.distribution
    before = distribution.distribution()
    distribution.set_distribution(distribution.DataParallel(devices=devices[:count]))
    try:
        yield None
    finally:
        distribution.set_distribution(before)


@contextlib.contextmanager
def _policy(precision):
    before = keras.config.dtype_policy()
    if precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _make_deterministic():
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _check_folder(settings):
    own = (*FILES, checkpoints.PARTIAL)
    again = bool(settings.resume)
    files.check_folder(settings.output, own, again, "--resume goes on with it")


def _check_same(recipe, settings):
    """Raises where a run is to be resumed with another recipe."""
    path = settings.output / RECIPE
    if settings.resume is not True or not path.is_file():
        return
    here, there = (
        {k: v for k, v in dataclasses.asdict(r).items() if k not in _FREE}
        for r in (recipe, load(path))
    )
    texts = [
        f"{part}.{key}: {value} here, {there[part][key]} there"
        for part, values in here.items()
        for key, value in values.items()
        if value != there[part][key]
    ]
    if texts:
        raise ValueError(
            "--output must be the folder of a run of this recipe, for it to end as if "
            "it had never been interrupted; --resume force goes on nevertheless. "
            f"Differences: {'; '.join(texts)}. Received: {settings.output}"
        )


def _compiled(recipe, settings, images):
    steps = recipe.schedule.steps(images.steps)
    network = settings.network or build.network
    model = network(recipe, images.facts, steps)
    jit = "auto" if settings.jit is None else settings.jit
    return build.compiled(model, recipe, images.facts, images.steps, jit)


def _fit(experiment):
    recipe, settings, images = (
        experiment.recipe,
        experiment.settings,
        experiment.material,
    )
    model = experiment.model
    fit = loop.fit if keras.backend.backend() == "tensorflow" else keras_loop.fit
    callbacks = build.callbacks(recipe, images.steps)
    if experiment.chief:
        callbacks += [_RecipeFile(experiment)]
    return fit(
        model,
        lambda epoch: build.both_targets(model, images.train(epoch)),
        # What the batches depend on: a run goes on with the same only.
        batch_size=recipe.data.batch_size,
        seed=settings.seed,
        epochs=experiment.epochs,
        verbose=settings.verbose,
        callbacks=callbacks,
        validation_data=build.both_targets(model, images.evaluate(images.validation)),
        checkpoint=settings.output,
        checkpoint_every=settings.checkpoint_every,
        resume=settings.resume,
    ).history


class _RecipeFile(keras.callbacks.Callback):
    """Writes the recipe into the folder as soon as that is there: it is what a run
    that was killed goes on with."""

    def __init__(self, experiment):
        super().__init__()
        self._experiment = experiment

    def on_train_begin(self, logs=None):
        output = self._experiment.settings.output
        files.write_text(output / RECIPE, self._experiment.recipe.to_yaml())


def write_history(path: Path, history: dict[str, list]) -> None:
    """Writes a table of the metrics, an epoch a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *row])


def _finish(experiment, history):
    """Evaluates the file that it writes."""
    recipe, images, model = experiment.recipe, experiment.material, experiment.model
    if recipe.statistics.recalibrate:
        batches = images.train(experiment.epochs)
        recalibrate(model, batches, steps=recipe.statistics.recalibrate)
    if not experiment.chief:
        return Results(False, None, history)
    output = experiment.settings.output
    with files.staged(output / MODEL, MODEL) as staged:
        build.without_auxiliary(model).save(staged.path)
        staged.publish()
    with files.staged(output / HISTORY, HISTORY) as staged:
        write_history(staged.path, history)
        staged.publish()
    written = keras.models.load_model(output / MODEL, compile=False)
    scores = evaluate(written, images)
    _write_run(experiment, scores)
    return Results(True, scores, history)


def _write_run(experiment, scores):
    settings = experiment.settings
    values = {
        "command": settings.command,
        "seed": settings.seed,
        "images": scores.images,
        "metrics": scores.metrics,
    }
    files.write_text(settings.output / RUN, json.dumps(values, indent=1) + "\n")
