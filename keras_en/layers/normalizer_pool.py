"""What every layer over a pool of normalizers shares."""

import contextlib
import inspect
import random
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_en import arguments
from keras_en.arguments import check
from keras_en.ops import replicas
from keras_en.ops.moments import NORMALIZERS
from keras_en.ops.normalize import Inputs, Normalize
from keras_en.ops.ratios import complete_shares, logits
from keras_en.ops.renorm import Moving, Renorm

# What the names of arguments end in that a configuration does not hold as such.
_OBJECTS = ("_initializer", "_regularizer", "_constraint")
# Gradients hold the power -3/2 of it, which float32 ends at 3e38.
_SMALLEST_EPSILON = 1e-20


def default_pool(rank):
    """What `normalizers=None` stands for: rank 2 has no instance statistics."""
    return ("layer", "batch") if rank == 2 else ("instance", "layer", "batch")


def checked_pool(normalizers):
    """`normalizers` as a tuple of known names without duplicates, or `None`."""
    if normalizers is None:
        return None
    valid = isinstance(normalizers, (list, tuple))
    allowed = "None, a list or a tuple of names"
    check(valid, "normalizers", allowed, normalizers, kind=TypeError)
    names = tuple(normalizers)
    valid = all(name in NORMALIZERS for name in names) and len({*names}) == len(names)
    allowed = f"a non-empty choice, without duplicates, of {NORMALIZERS}"
    check(names and valid, "normalizers", allowed, names)
    return names


def again(initializer):
    """One that does not repeat the values of another weight's."""
    is_object = isinstance(initializer, keras.Initializer)
    return initializer.clone() if is_object else initializer


def seed_beside(name):
    """What a layer draws its seeds by, which depends on the stream of seeds where it is
    made and leaves those of other layers as they are: a network begins with the same
    convolutions whatever normalizes it.

    Layers that are made one behind the other, without a draw between them, differ by
    their names, but not by numbers behind them: those of Keras go on through a process,
    and the same seed is to make the same network again.
    """
    state = random.getstate()
    seed = f"{random.random()} {re.sub(r'_[0-9]+$', '', name)}"
    random.setstate(state)
    return seed


@contextlib.contextmanager
def drawing(seed):
    """Draws inside are by `seed`; the stream of seeds stays where it is."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def configuration(layer, cls):
    """The arguments of the constructor of a class, as `layer` has them."""
    config = {}
    _, *names, _ = inspect.signature(cls.__init__).parameters
    for name in names:
        value = getattr(layer, name)
        is_object = name.endswith(_OBJECTS)
        config[name] = (
            keras.saving.serialize_keras_object(value) if is_object else value
        )
    return config


class NormalizerPool(keras.layers.Layer):
    """Statistics of a pool of normalizers, with moving statistics for its "batch".

    The base of the layers that mix normalizers. It knows the arguments of
    `keras.layers.BatchNormalization`, `normalizers`, `groups` and `initial_ratios`; a
    subclass adds the weights of its mixture, `_weights`, in `_add_weights`, and says in
    `_make_mixture` how it mixes. See `ExemplarNormalization` for every argument.

    Attributes, after `build`:
        pool: The tuple of normalizers in use.
        channel_axis: The channel axis, a positive integer.
    """

    _weights: Any

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        synchronized: bool = False,
        normalizers: Sequence[str] | None = None,
        groups: int = 32,
        initial_ratios: dict[str, float] | None = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        # Half-precision inputs arrive as they are: cast to the policy's dtype and
        # then to float32, they would be rounded twice.
        super().__init__(autocast=False, **kwargs)
        self.axis = arguments.integer("axis", axis, not_zero="the batch axis")
        self.momentum = arguments.number("momentum", momentum, "in [0, 1]")
        self.epsilon = arguments.number("epsilon", epsilon, "positive")
        self.center = center
        self.scale = scale
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(
            moving_variance_initializer
        )
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.synchronized = synchronized
        self.normalizers = checked_pool(normalizers)
        self.groups = arguments.integer("groups", groups, minimum=1)
        if initial_ratios is not None:
            complete_shares(initial_ratios, self.normalizers or NORMALIZERS)
        self.initial_ratios = initial_ratios
        self.renorm = renorm
        self.renorm_clipping = (renorm_clipping or {}) if renorm else renorm_clipping
        self.renorm_momentum = arguments.number(
            "renorm_momentum", renorm_momentum, "in [0, 1]"
        )
        self._renorm = None
        if renorm:
            self._renorm = Renorm.of(self.renorm_clipping, self.renorm_momentum)
        self.supports_masking = True
        check(0 <= self.momentum <= 1, "momentum", "in [0, 1]", self.momentum)
        allowed = f"positive, and at least {_SMALLEST_EPSILON}: gradients of less are "
        allowed += "beyond float32 where a variance is 0"
        check(self.epsilon >= _SMALLEST_EPSILON, "epsilon", allowed, self.epsilon)
        valid = not synchronized or keras.backend.backend() != "torch"
        check(valid, "synchronized", "False on the torch backend", synchronized)

    def build(self, input_shape: Sequence[int | None]) -> None:
        rank = len(input_shape)
        check(2 <= rank <= 5, "inputs", "of rank 2 to 5", tuple(input_shape), "shape")
        limits = f"between {1 - rank} and {rank - 1}, and not 0, for inputs of rank "
        check(-rank < self.axis < rank, "axis", f"{limits}{rank}", self.axis)
        axis = self.axis % rank
        channels = input_shape[axis]
        allowed = f"of a defined size on the channel axis, axis={self.axis}"
        defined = channels is not None
        check(defined, "inputs", allowed, tuple(input_shape), "shape")
        pool = self.normalizers or default_pool(rank)
        allowed = 'without "instance" for inputs of rank 2, which have no spatial axes'
        check(rank > 2 or "instance" not in pool, "normalizers", allowed, pool)
        if "group" in pool:
            arguments.divisor("groups", self.groups, channels)
        self.channel_axis = axis
        self.pool = pool
        self._add_weights(channels)
        self.mixture = self._make_mixture(channels)
        self.input_spec = keras.layers.InputSpec(ndim=rank, axes={axis: channels})

    def _add_exact_weight(self, name, shape, initializer, **kwargs):
        # Mixed precision must not round a weight before the statistics use it.
        return self.add_weight(shape, initializer, name=name, autocast=False, **kwargs)

    @staticmethod
    def logits_of(shares: Sequence[float]) -> list[float]:
        """The logits of which the ratios are `shares`, a list of `K` floats."""
        return logits(shares)

    def _initial_logits(self, shape, dtype=None):
        if self.initial_ratios is None:
            return ops.zeros(shape, dtype=dtype)
        shares = complete_shares(self.initial_ratios, self.pool)
        return ops.convert_to_tensor(self.logits_of(shares), dtype=dtype)

    def _add_affine_weight(self, name, shape, initializer=None):
        return self._add_exact_weight(
            name,
            shape,
            initializer or getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
        )

    def _add_affine_weights(self, shape):
        self.gamma = self._add_affine_weight("gamma", shape) if self.scale else None
        self.beta = self._add_affine_weight("beta", shape) if self.center else None

    def _add_moving_statistics(self, channels):
        mean, variance = self.moving_mean_initializer, self.moving_variance_initializer
        initializers = {"moving_mean": mean, "moving_variance": variance}
        if self.renorm:

            def stddev(shape, dtype=None):
                return ops.sqrt(again(variance)(shape, dtype=dtype))

            initializers["moving_stddev"] = stddev
            initializers["renorm_mean"] = again(mean)
            initializers["renorm_stddev"] = stddev
        if "batch" in self.pool:
            replicas.check_strategy()
        for name in Moving._fields:
            weight = None
            if "batch" in self.pool and name in initializers:
                weight = self._add_exact_weight(
                    name, (channels,), initializers[name], trainable=False
                )
            setattr(self, name, weight)

    def _moving(self):
        """The names of the moving statistics, if any."""
        return [name for name in Moving._fields if getattr(self, name) is not None]

    def _learns(self, training):
        """Whether "batch" uses, and moves by, the statistics of the batch."""
        return bool(training) and self.trainable and "batch" in self.pool

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return self._normalized(inputs, mask, training)[0]

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        self._check_inputs(inputs, mask)
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def _normalized(self, inputs, mask, training, return_ratios=False):
        """Outputs and ratios of one call; moves the moving statistics.

        Args:
            inputs, mask, training: As the layer is called with.
            return_ratios: Whether the ratios are wanted.
        """
        self._check_inputs(inputs, mask)
        if isinstance(mask, list | tuple):
            mask = ops.convert_to_tensor(mask)
        dtype, learns = self._statistics_dtype(inputs), self._learns(training)
        normalize = Normalize(
            self.mixture,
            self.channel_axis,
            self.epsilon,
            self.momentum if learns else None,
            self._renorm,
            self.synchronized,
            bool(training),
            dtype,
            self.compute_dtype,
        )

        def exact(name):
            variable = getattr(self, name)
            return None if variable is None else ops.cast(variable, dtype)

        weights = self._weights(*map(exact, self._weights._fields))
        names = self._moving()
        moving = tuple(map(exact, names)) or None
        outputs = normalize.traced_once(
            Inputs(inputs, mask, moving, weights), return_ratios
        )
        if learns:
            for name, value in zip(names, outputs.moving, strict=True):
                getattr(self, name).assign(value)
        return outputs.y, outputs.ratios

    def _statistics_dtype(self, inputs):
        # Not `keras.backend.result_type`, which knows no float64 on JAX.
        dtypes = (keras.backend.standardize_dtype(inputs.dtype), self.variable_dtype)
        return "float64" if "float64" in dtypes else "float32"

    def _check_inputs(self, inputs, mask):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if dtype == "string" or "complex" in dtype:
            raise TypeError(
                "Argument `inputs` must hold real numbers or booleans. "
                f"Received: inputs.dtype={dtype}"
            )
        # A symbolic tensor says so, TensorFlow's has rows of lengths of their own.
        if getattr(inputs, "ragged", False) or hasattr(inputs, "nested_row_splits"):
            raise TypeError(
                f"Argument `inputs` of {type(self).__name__} {self.name!r} must be a "
                "dense tensor: pass `inputs.to_tensor()`, and a mask of what it pads. "
                f"Received: a ragged tensor, inputs.shape={tuple(inputs.shape)}"
            )
        if mask is None:
            return
        shape = tuple(mask.shape) if hasattr(mask, "shape") else np.shape(mask)
        # As Keras sends it, whatever the channel axis is.
        wanted = list(inputs.shape)[:-1]
        fits = len(shape) == len(wanted) and all(
            size in (1, None, full) or full is None
            for size, full in zip(shape, wanted, strict=True)
        )
        if not fits:
            raise ValueError(
                "Argument `mask` must have the shape of `inputs` without the last "
                f"axis. Received: mask.shape={shape}, "
                f"inputs.shape={tuple(inputs.shape)}"
            )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **configuration(self, NormalizerPool)}
