"""Outputs against those of the model."""

import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np

from keras_en.arguments import require
from keras_en.keras_private import layers_of

from .. import serving
from .cases import Arrays, Case
from .checks import Outcome, Unequal

# The share of the tolerance by which the two largest outputs may differ and still be a
# tie. With all of it no difference that is allowed could change the class. Twice what
# rounding does to the model is a tie as well.
TIE = 0.1
# Draws of inputs with other last bits: one alone may be a lucky one.
DRAWS = 3
# The share of the size of outputs by which a copy in another dtype may be away.
COPY, EXACT_COPY = 0.2, 1e-2


@dataclasses.dataclass
class Reference:
    """What a model computes, in float32 and in float64.

    Args:
        model: A Keras model computing in float32.
        exact: The same computing in float64, or `None`.
        atol, rtol: Tolerances: `atol + rtol * |y|` is allowed, or twice what rounding
            does to the model, if that is more: its largest distance from `exact`, be
            it that of its outputs for inputs that differ in their last bit. The same
            sums in another order cannot be held to more. Without `exact` the distance
            of those outputs from the model's own stands in for it.
        dtype: What the artefact computes in, whose last bit it is.
    """

    model: keras.Model
    exact: keras.Model | None
    atol: float
    rtol: float
    dtype: str = "float32"
    _outputs: dict = dataclasses.field(default_factory=dict, init=False)

    def outputs(self, case: Case, function: Callable = serving.forward) -> tuple:
        """What a function that `serving` makes of the model returns, and of its float64
        copy (or `None`): dictionaries of arrays."""
        key = case.name, function.__name__
        if key not in self._outputs:
            values = list(case.inputs.values())
            own = evaluated(self.model, values, function)
            exact = self.exact and evaluated(self.exact, values, function)
            # A copy that computes something else says nothing about rounding.
            if exact and max(distance(exact[k], own[k]) for k in own) > EXACT_COPY:
                exact = None
            self._outputs[key] = own, exact
        return self._outputs[key]

    def compare(
        self,
        outputs: Arrays,
        case: Case,
        function: Callable = serving.forward,
        expected: Arrays | None = None,
    ) -> Outcome:
        """The largest difference between an artefact's outputs and the model's, and
        what is to be known of it.

        Args:
            outputs: Dictionary of arrays, in the layout of the model.
            case: `Case`.
            function: As in `outputs`.
            expected: Dictionary of arrays in place of the model's, to which the same
                bounds apply.

        Returns:
            Text, dictionary of numbers.

        Raises:
            Unequal: A difference exceeds what is allowed, or another class has the
                largest output.
        """
        own, exact = self.outputs(case, function)
        if set(outputs) != set(own):
            raise Unequal(f"outputs must be {sorted(own)}. Received: {sorted(outputs)}")
        nothing: dict = dict.fromkeys(own)

        def compared(draws):
            sides = (outputs, expected or own, own, exact or nothing)
            return [
                self._compared(*(side[k] for side in sides), [d[k] for d in draws])
                for k in own
            ]

        try:
            rows = compared([])
        except Unequal:
            # Only here, since it takes as long as all the rest.
            rows = compared(self._with_other_last_bits(case, function))
        measured = {k: max(row[k] for row in rows) for k in rows[0]}
        return _text(measured), measured

    def _with_other_last_bits(self, case, function):
        """What the model makes of inputs that differ in their last bit: it rounds
        otherwise, and each sample by itself, where equal samples round equally. In
        float16 the weights differ, too: every layer rounds, not the first alone."""
        rng, draws = np.random.default_rng(0), []
        for _ in range(DRAWS):
            values = [self._nudged(v, case.kind, rng) for v in case.inputs.values()]
            with keras.StatelessScope(self._nudged_weights(rng)):
                draws.append(evaluated(self.model, values, function))
        return draws

    def _nudged_weights(self, rng):
        """Pairs of a variable and its value, of those that are float16."""
        if self.dtype != "float16":
            return []
        exact = {  # They compute in float32.
            id(variable)
            for layer in layers_of(self.model)
            if type(layer).__name__.endswith("Normalization")
            for variable in layer.variables
        }
        return [
            (v, self._nudged(keras.ops.convert_to_numpy(v), "weight", rng))
            for v in self.model.variables
            if id(v) not in exact
        ]

    def _nudged(self, value, kind, rng):
        if not np.issubdtype(value.dtype, np.floating):
            return value
        bit = float(np.finfo(self.dtype).eps)
        if kind == "constant" and self.dtype == "float32":
            # The errors of a sum of n equal numbers do not cancel: all additions of a
            # stretch round in one direction. Of such a mean nothing is left but its
            # error, which a variance of 0 + epsilon magnifies. Random bits cancel to
            # 1 / sqrt(n) in a mean, so they are as many times larger.
            bit *= math.sqrt(math.prod(value.shape[1:-1]))
        return (value * (1 + rng.choice([-1, 0, 1], value.shape) * bit)).astype(
            value.dtype
        )

    def _compared(self, actual, expected, own, exact, moved):
        """What is measured of one output. `own` is that of the model, `exact` of its
        float64 copy, `moved` those of the model for inputs with other last bits."""
        right, what = actual.shape == expected.shape, f"be {expected.shape}"
        require(right, "the shape", what, actual.shape, Unequal)
        measured, rounding = {"difference": _largest(actual, expected)}, 0.0
        if exact is not None:
            measured["error"] = _largest(actual, exact)
            measured["model_error"] = rounding = _largest(own, exact)
        if moved:
            right = own if exact is None else exact
            measured["last_bit"] = max(_largest(other, right) for other in moved)
            rounding = max(rounding, measured["last_bit"])
        size = np.abs(np.nan_to_num(expected.astype("float64")))
        tolerance = self.atol + self.rtol * size
        _check_differences(actual, expected, np.maximum(tolerance, 2 * rounding))
        _check_classes(actual, expected, np.maximum(TIE * tolerance, 2 * rounding))
        return measured


def apart(outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """`|outputs - expected|` in float64; 0 for equal infinities."""
    outputs, expected = outputs.astype("float64"), expected.astype("float64")
    with np.errstate(invalid="ignore"):
        return np.where(outputs == expected, 0.0, np.abs(outputs - expected))


def distance(outputs: np.ndarray, expected: np.ndarray) -> float:
    """`|outputs - expected| / |expected|`, in the Euclidean norm."""
    size = np.linalg.norm(expected[np.isfinite(expected)].astype("float64")) or 1.0
    return float(np.linalg.norm(apart(outputs, expected)) / size)


def evaluated(
    model: keras.Model, tensors: list, function: Callable = serving.forward
) -> Arrays:
    """Outputs of a function that `serving` makes of a model, NumPy arrays by name."""
    outputs = function(model)(*map(keras.ops.convert_to_tensor, tensors))
    return {k: keras.ops.convert_to_numpy(v) for k, v in outputs.items()}


def _largest(outputs, expected):
    return float(apart(outputs, expected).max(initial=0))


def _text(measured):
    text = f"largest difference {measured['difference']:.1e}"
    if "error" in measured:
        text += (
            f"; from float64 {measured['error']:.1e}, the model "
            f"{measured['model_error']:.1e}"
        )
    if "last_bit" in measured:
        text += f", with other last bits {measured['last_bit']:.1e}"
    return text


def _check_differences(actual, expected, allowed):
    differences = apart(actual, expected)
    if not (differences <= allowed).all():  # NaN included
        where = np.nan_to_num(differences - allowed, nan=np.inf).argmax()
        raise Unequal(
            f"{actual.flat[where]:.8g} for {expected.flat[where]:.8g}; "
            f"allowed {allowed.flat[where]:.1e}; "
            f"largest difference {differences.max():.1e}"
        )


def _check_classes(actual, expected, tie):
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return
    second, first = np.moveaxis(np.sort(expected, axis=-1)[..., -2:], -1, 0)
    clear = apart(first, second) > tie.max(-1)
    other = actual.argmax(-1) != expected.argmax(-1)
    if (other & clear).any():
        raise Unequal(f"{int((other & clear).sum())} samples have another class")
