"""The private names of Keras's trainer and optimizers.

Nothing else in this package touches a private name of Keras.
"""

import contextlib
import functools
import threading

import keras

# Owner and name, and what it is used for; a test holds that each is there.
USES = {
    "Model._call_has_training_arg": "calls of a model in training or evaluation",
    "Model._compute_loss": "the loss of a step",
    "Model._loss_tracker": "the mean loss of an epoch",
    "loss.scale_loss_for_distribution": "the mean loss of a replica's samples",
    "loss.unscale_loss_for_distribution": "the mean loss of a replica's samples",
    "Model._compile_loss": "the weights of losses",
    "CompileLoss._user_loss_weights": "the weights of losses",
    "Huber._fn_kwargs": "options of a loss that its configuration leaves out",
    "Model._symbolic_build": "building a model by its first batch",
    "Optimizer._iterations": "the number of training steps",
    "Optimizer._accumulated_gradients": "gradients that wait for an update",
    "Optimizer._get_variable_index": "what an optimizer holds of each weight",
    "Optimizer._distribution_strategy": "the strategy that an optimizer was made in",
    "Optimizer._all_reduce_sum_gradients": "gradients that are summed already",
    "Optimizer._backend_apply_gradients": "gradients that are accumulated already",
    "Optimizer._clip_gradients": "an update by accumulated gradients",
    "Optimizer._apply_weight_decay": "an update by accumulated gradients",
    "Optimizer._backend_update_step": "an update by accumulated gradients",
}

# Whether this thread computes the loss of one replica's samples.
_local = threading.local()


def inner_optimizer(optimizer):
    """The optimizer that updates: the loss scale of mixed_float16 wraps it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def optimizers_of(optimizer):
    """Those that update weights: `MultiOptimizer` has one for each part of them."""
    return [optimizer, *getattr(optimizer, "optimizers", [])]


def options_of_loss(loss):
    """What the function of a loss is called with: `Huber` says it nowhere else."""
    return getattr(loss, "_fn_kwargs", {})


def loss_weights(model):
    """As `compile` got them."""
    return getattr(model._compile_loss, "_user_loss_weights", None)


def steps_done(optimizer):
    """Training steps so far, those that only accumulate included."""
    steps = inner_optimizer(optimizer)._iterations
    return int(keras.ops.convert_to_numpy(steps.value))


def count_step(optimizer):
    """Adds a training step that updates no weight."""
    optimizer._iterations.assign_add(1)


def count_whole_updates(optimizer, steps):
    """Behind an update of so many steps: where it was skipped, as loss scales do, its
    steps count as none, so that the next is as long."""
    count = optimizer._iterations
    count.assign(count.value // steps * steps)


def strategy(optimizer):
    """The strategy that the optimizer was made in."""
    return optimizer._distribution_strategy


def accumulators(optimizer, variables):
    """The optimizer's sum of gradients for each variable; none if it keeps no sums."""
    if not optimizer.gradient_accumulation_steps:
        return []
    sums = optimizer._accumulated_gradients
    return [sums[index(optimizer, variable)] for variable in variables]


def index(optimizer, variable):
    """The place of a weight among those that the optimizer was built for."""
    return optimizer._get_variable_index(variable)


@contextlib.contextmanager
def whole_gradients(optimizer):
    """Inside, the optimizer, and each that it consists of, applies gradients that are
    whole: accumulated over steps, and summed over replicas.

    Keras's own `apply` accumulates and clips what each replica has, and sums over the
    replicas behind that, so that a step of several is not a step of one device. In
    this optimizer two methods are replaced:

    - `_all_reduce_sum_gradients`, which would sum over replicas, does nothing.
    - `_backend_apply_gradients`, which would accumulate, if the optimizer does, and
      clip, decay and update, does only the last three. The optimizer keeps its
      `gradient_accumulation_steps`: bias corrections count updates by it.
    """

    def update(gradients, variables):
        gradients = optimizer._clip_gradients(gradients)
        optimizer._apply_weight_decay(variables)
        optimizer._backend_update_step(gradients, variables, optimizer.learning_rate)

    replaced = [
        (o, "_all_reduce_sum_gradients", list) for o in optimizers_of(optimizer)
    ]
    if optimizer.gradient_accumulation_steps:
        replaced.append((optimizer, "_backend_apply_gradients", update))
    for owner, name, function in replaced:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for owner, name, _ in replaced:
            delattr(owner, name)


def build(model, batch):
    """Makes the variables of model, metrics and optimizer for batches like this one."""
    model._symbolic_build(data_batch=batch)


def mode(model, training):
    """The arguments that call the model in training or evaluation, if it has two."""
    return {"training": training} if model._call_has_training_arg else {}


def loss(model, x, y, outputs, sample_weight, training):
    """The loss of a batch, or of a replica's part as if it were one: that of layers
    included."""
    _leave_losses_whole()
    _local.whole = True
    try:
        return model._compute_loss(
            x=x, y=y, y_pred=outputs, sample_weight=sample_weight, training=training
        )
    finally:
        _local.whole = False


def count_loss(model, value, samples):
    """Adds the mean loss of so many samples to the metric `loss`."""
    model._loss_tracker.update_state(value, sample_weight=samples)


@functools.cache
def _leave_losses_whole():
    """From here on Keras divides no loss by the number of replicas inside `loss`.

    Under a strategy it divides a loss that it reduces itself, but not one that is a
    scalar already, nor what a `compute_loss` of one's own adds; so that no factor
    behind it is right for all.
    """
    from keras.src.losses import loss as module

    def unless_whole(function):
        @functools.wraps(function)
        def scaled(value):
            return value if getattr(_local, "whole", False) else function(value)

        return scaled

    for name in ("scale_loss_for_distribution", "unscale_loss_for_distribution"):
        setattr(module, name, unless_whole(getattr(module, name)))
