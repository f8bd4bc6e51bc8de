"""A recipe becomes a compiled network."""

import inspect
from typing import Any, NamedTuple

import keras

from keras_en.keras_private import layers_of
from keras_en.models import norms
from keras_en.models.builder import at_least_float32
from keras_en.training import optimizers, schedules
from keras_en.training.crossentropy import Crossentropy, balanced_weights
from keras_en.training.data import Data, Transform
from keras_en.training.radius import RadiusSchedule
from keras_en.training.recipes import rules
from keras_en.training.recipes.keys import BUILDERS
from keras_en.training.recipes.recipe import Recipe

# The start of a moving average weighs so little after half of a training.
_FORGOTTEN = 1e-3


class Facts(NamedTuple):
    """What a network has to know of its data.

    - `classes`: their number.
    - `image_shape`: `(H, W, C)`, as the network gets them; `None` where they differ.
    - `task`: "classification" or "segmentation".
    - `void`: the label that counts nowhere, or `None`.
    - `labels`: those of the training images, or `None`.
    """

    classes: int
    image_shape: tuple[int | None, ...]
    task: str = "classification"
    void: int | None = None
    labels: Any = None


def facts(data: Data, recipe: Recipe) -> Facts:
    """Those of data, as the transforms of a recipe leave its images.

    Raises:
        ValueError: A step is not allowed; training and evaluation have images of
            different sizes.
    """
    part, shape = recipe.data, data.splits["train"].image_shape
    train, evaluate = (
        Transform.of(steps, part.image_size, data.void)
        .sized(part.image_size)
        .output_shape(shape)
        for steps in (part.train, part.evaluate)
    )
    if data.task == "segmentation":
        # A test of several sizes has others than the training.
        train = evaluate = (None, None, shape[2])
    where, same = f"Recipe {recipe.name}", train == evaluate
    allowed = f"steps to images of {train[:2]}, those of data.train"
    rules.require(same, where, "data.evaluate", allowed, evaluate[:2])
    labels = data.splits["train"].labels
    return Facts(len(data.class_names), train, data.task, data.void, labels)


def build(
    recipe: Recipe,
    data: Data | Facts,
    steps_per_epoch: int,
    jit_compile: bool | str = "auto",
) -> keras.Model:
    """The network of a recipe, compiled: the same on every backend.

    A network with an auxiliary output wants targets for both, see `both_targets`.

    Args:
        recipe: `Recipe`.
        data: `keras_en.training.data.Data`, or `Facts` about it.
        steps_per_epoch: Training steps of an epoch.
        jit_compile: As in `keras.Model.compile`.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: The recipe does not fit the data, or the network.
    """
    if not isinstance(data, Facts):
        data = facts(data, recipe)
    model = network(recipe, data, recipe.schedule.steps(steps_per_epoch))
    return compiled(model, recipe, data, steps_per_epoch, jit_compile)


def compiled(
    model: keras.Model,
    recipe: Recipe,
    data: Facts,
    steps_per_epoch: int,
    jit_compile: bool | str = "auto",
) -> keras.Model:
    """`model`, one of `network` or of a file, compiled as `build` does."""
    heads = _heads(model)
    loss, metric = _loss(recipe, data), _metrics(data)
    weights = {"main": 1.0, "auxiliary": recipe.loss.auxiliary}
    model.compile(
        optimizer(recipe, steps_per_epoch),
        dict.fromkeys(heads, loss) if heads else loss,
        loss_weights={name: weights[name] for name in heads} if heads else None,
        metrics={"main": metric} if heads else metric,
        jit_compile=jit_compile,
    )
    return model


def network(recipe: Recipe, data: Facts, steps: int) -> keras.Model:
    """The network, not compiled, for so many training steps; see `build`."""
    _check_task(recipe, data)
    part = recipe.network
    arguments = {
        **part.arguments,
        "input_shape": _input_shape(data.image_shape),
        "classes": data.classes,
        "norm": recipe.norm.name,
        "norm_kwargs": norm_arguments(recipe, steps),
    }
    if part.dropout:
        arguments |= {"include_top": False, "pooling": "avg"}
    model = BUILDERS[part.name](**arguments)
    if part.dropout:
        model = _with_dropout(model, part.dropout, data.classes)
    if part.initializer == "he_fan_out":
        _initialize(model)
    return model


def norm_arguments(recipe: Recipe, steps: int) -> dict[str, Any]:
    """Arguments of every normalization, those that its layer has."""
    name = recipe.norm.name
    knows = inspect.signature(norms.LAYERS[name]).parameters
    momentum = recipe.statistics.momentum
    if momentum == "auto":
        momentum = min(0.99, _FORGOTTEN ** (2 / steps))
    wanted = {"momentum": momentum, "epsilon": recipe.norm.epsilon}
    if recipe.norm.synchronized:
        wanted["synchronized"] = True
    arguments = {k: v for k, v in wanted.items() if v is not None and k in knows}
    return arguments | recipe.norm.own_arguments()[1]


def optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, with its schedule."""
    part, timing = recipe.optimizer, recipe.schedule
    rate = schedules.schedule(
        timing.name,
        part.learning_rate,
        timing.steps(steps_per_epoch),
        tuple(timing.steps(steps_per_epoch, stone) for stone in timing.milestones),
        timing.factor,
        timing.power,
        timing.steps(steps_per_epoch, timing.warmup),
    )
    arguments: dict[str, Any] = {}
    if part.name == "sgd":
        arguments |= {"momentum": part.momentum, "nesterov": part.nesterov}
    if part.ema is not None:
        arguments |= {"use_ema": True, "ema_momentum": part.ema}
    if part.decay == "decoupled":
        kinds = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
        return kinds[part.name](rate, weight_decay=part.weight_decay, **arguments)
    return {"sgd": optimizers.SGD, "adam": optimizers.Adam}[part.name](
        rate,
        l2=part.weight_decay,
        exclude=part.exclude,
        ratio_l2=part.ratio_weight_decay,
        ratio_lr_multiplier=part.ratio_lr_multiplier,
        ratio_clipnorm=part.ratio_clipnorm,
        **arguments,
    )


def callbacks(recipe: Recipe, steps_per_epoch: int) -> list[keras.callbacks.Callback]:
    """Those that a training with the recipe needs."""
    if recipe.norm.name != "ssn":
        return []
    steps = max(2, recipe.schedule.steps(steps_per_epoch))
    return [RadiusSchedule(steps, recipe.statistics.radius_end)]


class _BothTargets:
    """Batches `(x, y)` as `(x, {"main": y, "auxiliary": y})`.

    Args:
        batches: Iterable with a length.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for x, y in self.batches:
            yield x, {"main": y, "auxiliary": y}


def both_targets(model: keras.Model, batches: Any) -> Any:
    """Batches for the outputs of `model`: as they are unless it has an auxiliary
    one."""
    return _BothTargets(batches) if _heads(model) else batches


def without_auxiliary(model: keras.Model) -> keras.Model:
    """The model with its main output alone, which shares its weights."""
    if not _heads(model):
        return model
    return keras.Model(model.input, model.output["main"], name=model.name)


def _heads(model):
    """Names of the outputs; none of a model with one."""
    return list(model.output) if isinstance(model.output, dict) else []


def _check_task(recipe, data):
    of_segmentation = recipe.network.name.startswith("DeepLab")
    where, name = f"Recipe {recipe.name}", recipe.network.name
    allowed = f"a network for {data.task}, as the data has it"
    valid = of_segmentation == (data.task == "segmentation")
    rules.require(valid, where, "network.name", allowed, name)
    if of_segmentation and keras.config.image_data_format() != "channels_last":
        raise ValueError(
            'Segmentation must have keras.config.image_data_format() "channels_last", '
            "as its loss and its metric do. Received: channels_first"
        )
    valid = not recipe.loss.balanced or data.labels is not None
    allowed = "false for data without a label of every image"
    rules.require(valid, where, "loss.balanced", allowed, True)
    allowed, smoothing = "0 for data with a void label", recipe.loss.label_smoothing
    valid = not smoothing or data.void is None
    rules.require(valid, where, "loss.label_smoothing", allowed, smoothing)


def _input_shape(shape):
    height, width, channels = shape
    if keras.config.image_data_format() == "channels_first":
        return channels, height, width
    return height, width, channels


def _with_dropout(features, rate, classes):
    x = keras.layers.Dropout(rate, name="dropout")(features.output)
    dense = keras.layers.Dense(
        classes, "softmax", name="predictions", dtype=at_least_float32()
    )
    return keras.Model(features.input, dense(x), name=features.name)


def _initialize(model):
    """Convolutions of N(0, sqrt(2 / (k^2 outputs))), as the paper's sources have."""
    initializer = keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal")
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Conv2D) and layer.name.endswith("_conv"):
            initializer = initializer.clone()
            layer.kernel.assign(initializer(layer.kernel.shape, layer.kernel.dtype))


def _loss(recipe, data):
    weights = None
    if recipe.loss.balanced:
        weights = balanced_weights(data.labels, data.classes)
    return Crossentropy(
        recipe.loss.label_smoothing, class_weights=weights, ignore_class=data.void
    )


def _metrics(data):
    if data.task == "segmentation":
        options = dict(ignore_class=data.void, sparse_y_pred=False)
        return [keras.metrics.MeanIoU(data.classes, "mean_iou", **options)]
    top = keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5")
    return ["accuracy", *([top] if data.classes > 5 else [])]
