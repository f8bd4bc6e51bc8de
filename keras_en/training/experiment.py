"""A training with a recipe: from its data to the files of its folder."""

import contextlib
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from keras_en import files
from keras_en.analysis import RatioRecorder, exemplar_layers
from keras_en.training import (
    best,
    build,
    checkpoints,
    devices,
    keras_loop,
    loop,
    report,
    strategies,
)
from keras_en.training.evaluation import Scores, evaluate, gap_warning, samples
from keras_en.training.material import Material, material
from keras_en.training.monitor import TensorBoard
from keras_en.training.progress import Progress
from keras_en.training.recalibration import check_layers, recalibrate
from keras_en.training.recipes.recipe import Recipe, load
from keras_en.training.run_folder import (
    FACTS,
    HISTORY,
    RECIPE,
    RunFolder,
    check_classes,
)

MODEL = "model.keras"
TENSORBOARD, RATIOS = "tensorboard", "ratios.npz"
SOMETIMES = (
    *(best.NAME, TENSORBOARD, RATIOS),
    *(report.CURVES, report.CONFUSION, report.SAMPLES),
)
FILES = (report.NAME, RECIPE, FACTS, HISTORY, MODEL, checkpoints.NAME)
# Images whose ratios are noted by epoch; images that a report shows.
PROBE, SHOWN = 128, 4
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
        precision: One of `devices.PRECISIONS`; the half ones are mixed.
        data_dir, skip_broken: See `keras_en.training.data.load`.
        network: Function of the recipe, `build.Facts` and the number of training steps
            to a network that is not compiled; `None`: that of the recipe.
        command: What a user has typed, for the report.
        progress: Function of a text: what is done behind the last epoch.
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
    progress: Callable[[str], object] = lambda text: None


@dataclass(frozen=True)
class Results:
    """Of a training.

    Attributes:
        scores: On the test images.
        history: As of `keras.callbacks.History`.
        warnings: What a reader of the scores should know.
    """

    scores: Scores
    history: dict[str, list]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A training that is ready to begin: images are there, the network is compiled."""

    recipe: Recipe
    settings: Settings
    material: Material
    model: keras.Model
    chief: bool
    replicas: int

    @functools.cached_property
    def folder(self) -> RunFolder:
        """Where it is written."""
        return RunFolder(self.settings.output)

    @property
    def epochs(self) -> int:
        """Number of the epoch after the last."""
        return self.recipe.schedule.epochs(self.material.steps)


def train(recipe: Recipe, settings: Settings) -> Results | None:
    """Trains the network of a recipe and writes its folder.

    Every worker calls this. The folder holds `recipe.yaml` and `run.json` from the
    beginning, a checkpoint after every epoch, `best.keras` of the best one so far,
    scalars for TensorBoard, `ratios.npz` of some images by epoch, and at the end
    `model.keras`, `history.csv` and `report.md` with its pictures.

    Returns:
        `Results`; `None` in a process that does not write.

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

    with contextlib.ExitStack() as stack:
        # First: TensorFlow must not have touched a device yet.
        strategy = stack.enter_context(
            devices.distributed(settings.strategy, settings.replicas)
        )
        chief = strategies.is_chief(strategy)
        if writes and chief:
            _check_folder(settings)
        if writes:
            _check_same(recipe, settings)
        stack.enter_context(devices.policy(settings.precision))
        keras.utils.set_random_seed(settings.seed)
        if settings.deterministic:
            devices.make_deterministic()
        images = material(
            recipe, settings.seed, settings.data_dir, settings.skip_broken
        )
        if writes and settings.resume is True:
            start = "--output must be new, or --resume force, or the images hold"
            check_classes(settings.output, images.data.class_names, start)
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = _compiled(recipe, settings, images)
        if recipe.statistics.recalibrate:
            check_layers(model)
        replicas = strategy.num_replicas_in_sync if strategy else 1
        if settings.strategy == "mirrored" and strategy is None:
            replicas = settings.replicas or len(keras.distribution.list_devices())
        yield Experiment(recipe, settings, images, model, chief, replicas)


def _check_folder(settings):
    own = (*FILES, *SOMETIMES, checkpoints.PARTIAL)
    again = bool(settings.resume)
    files.check_folder(settings.output, own, again, "--resume goes on with it")


def _check_same(recipe, settings):
    """Raises where a run is to be resumed with another recipe."""
    path = settings.output / RECIPE
    if settings.resume is not True or not path.is_file():
        return
    # A run may go on with another schedule: it is of the learning rate, which no
    # checkpoint holds either.
    here, there = (
        {part: keys for part, keys in r.training_parts.items() if part != "schedule"}
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
    recipe, settings = experiment.recipe, experiment.settings
    images, model = experiment.material, experiment.model
    fit = loop.fit if keras.backend.backend() == "tensorflow" else keras_loop.fit
    progress = Progress(images.images, recipe.data.batch_size)
    callbacks = [*build.callbacks(recipe, images.steps), progress]
    callbacks += _recorders(experiment)
    if experiment.chief:
        callbacks += [_start(experiment), best.Best(settings.output)]
    try:
        return fit(
            model,
            lambda epoch: build.both_targets(model, images.train(epoch)),
            # What the batches depend on: a run goes on with the same only.
            batch_size=recipe.data.batch_size,
            seed=settings.seed,
            epochs=experiment.epochs,
            verbose=settings.verbose,
            callbacks=callbacks,
            validation_data=build.both_targets(
                model, images.evaluate(images.validation)
            ),
            checkpoint=settings.output,
            checkpoint_every=settings.checkpoint_every,
            resume=settings.resume,
        ).history
    finally:
        progress.close()


def _recorders(experiment):
    """What notes scalars, and the ratios of some images that stay the same."""
    images, output = experiment.material, experiment.settings.output
    # A folder's images are sorted by class: the first ones would be of a single one.
    batches = images.mixed(images.validation, PROBE)
    if batches is None:
        batches = itertools.islice(images.evaluate(images.validation), 1)
    batch, labels = (np.concatenate(p)[:PROBE] for p in zip(*batches, strict=True))
    recorders = [TensorBoard(output / TENSORBOARD, batch)]
    if exemplar_layers(experiment.model):
        every = max(1, experiment.epochs // 6)
        recorders.append(
            RatioRecorder(
                batch,
                labels if images.facts.task == "classification" else None,
                output / RATIOS,
                every=every,
                class_names=images.data.class_names,
            )
        )
    return recorders


def _start(experiment):
    """A callback that writes the recipe into the folder as soon as that is there: it is
    what a run that was killed goes on with."""
    recipe, run = experiment.recipe, experiment.settings
    facts = recipe, run.command, run.seed, run.strategy, experiment.replicas
    names, start = experiment.material.data.class_names, experiment.folder.start
    policy = experiment.model.dtype_policy.name
    return keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: start(*facts, names, policy)
    )


def _finish(experiment, history):
    """Evaluates the file that it writes."""
    recipe, images, model = experiment.recipe, experiment.material, experiment.model
    say = experiment.settings.progress
    if recipe.statistics.recalibrate:
        say("Recalibrating moving statistics")
        batches = images.train(experiment.epochs)
        steps = min(recipe.statistics.recalibrate, images.steps)
        recalibrate(model, batches, steps=steps)
    if not experiment.chief:
        return None
    output = experiment.settings.output
    files.write(output / MODEL, build.without_auxiliary(model).save)
    written = keras.models.load_model(output / MODEL, compile=False)
    say(f"Evaluating {MODEL}")
    scores = evaluate(written, images)
    warning = gap_warning(written, images, images.split())
    warnings = () if warning is None else (warning,)
    seconds = experiment.folder.finish(history, scores.metrics)
    say(f"Writing {report.NAME}")
    _report(experiment, written, scores, history, seconds, warnings)
    return Results(scores, history, warnings)


def _report(experiment, model, scores, history, seconds, warnings):
    recipe, settings = experiment.recipe, experiment.settings
    images = experiment.material
    segments = scores.task == "segmentation"
    split = images.split()
    content = report.Report(
        title=recipe.about.title or recipe.name,
        command=settings.command,
        settings=recipe.to_yaml(),
        history=history,
        results={
            **scores.metrics,
            f"images of {split}": scores.images,
            "training images": images.images,
            "parameters": model.count_params(),
            "seconds": round(seconds),
        },
        class_names=images.data.class_names,
        confusion=scores.confusion,
        segmentation=segments,
        samples=samples(model, images, split, SHOWN) if segments else None,
        warnings=warnings,
        files=[name for name in FILES if name != report.NAME],
    )
    report.write_report(settings.output, content)
