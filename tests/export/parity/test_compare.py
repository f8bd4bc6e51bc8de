"""Gate 4: how far outputs may be from the model's."""

import keras
import numpy as np
import pytest

from keras_en.export.parity.cases import Case
from keras_en.export.parity.checks import Unequal
from keras_en.export.parity.compare import Reference, apart, distance
from keras_en.export.precision import computing_in
from tests.backends import images, numpy

pytestmark = pytest.mark.tensorflow


def test_by_hand():
    outputs, expected = np.array([3.0, np.inf]), np.array([5.0, np.inf])
    assert apart(outputs, expected).tolist() == [2.0, 0.0]
    assert distance(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == 0.5 / 5.0


def test_gate_4_bounds():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    reference = Reference(model, None, atol=1e-5, rtol=1e-4)
    y = np.array([[1.0, 2.0, -3.0]], "float32")
    case = Case("a", "random", {"inputs": y})
    reference.compare({"outputs": y + np.array([1e-4, -2e-4, 3e-4])}, case)
    for wrong, words in (
        (y + 3e-4, "allowed 1.1e-04"),
        (y * np.nan, "nan"),
        (y[:, :2], "shape must be"),
    ):
        with pytest.raises(Unequal, match=words):
            reference.compare({"outputs": wrong}, case)
    with pytest.raises(Unequal, match="outputs must be"):
        reference.compare({"logits": y}, case)


def test_gate_4_another_class_fails():
    """By less than is allowed for a number."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    reference = Reference(model, None, atol=0.1, rtol=0.0)
    for gap, fails in ((0.005, False), (0.02, True)):
        y = np.array([[1.0, 1.0 + gap], [0.0, 1.0]], "float32")
        outputs = {"outputs": y + [[gap, -gap], [0, 0]]}
        case = Case(str(gap), "random", {"inputs": y})
        if fails:
            with pytest.raises(Unequal, match="1 samples have another class"):
                reference.compare(outputs, case)
        else:
            reference.compare(outputs, case)


def test_gate_4_is_no_stricter_than_the_model_s_own_rounding():
    """A model that loses digits: its float64 copy says how many."""
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Rescaling(1e6)((x + 1e4) - 1e4))
    exact = computing_in(model, "float64")
    reference = Reference(model, exact, atol=1e-5, rtol=1e-4)
    x = images(np.random.default_rng(0), (4, 3))
    case = Case("a", "random", {"inputs": x})
    y32, y64 = reference.outputs(case)
    own = np.abs(y32["outputs"] - y64["outputs"]).max()
    assert own > 100
    _, measured = reference.compare({"outputs": y64["outputs"].astype("float32")}, case)
    assert measured["model_error"] == pytest.approx(own)
    with pytest.raises(Unequal):
        reference.compare({"outputs": y32["outputs"] + 3 * own}, case)


def test_gate_4_knows_what_the_last_bit_of_an_input_does():
    """A model that is exact in float32, and magnifies its input."""
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Rescaling(2.0**20)(x - 1.0))
    reference = Reference(model, computing_in(model, "float64"), 1e-5, 1e-4)
    case = Case("a", "random", {"inputs": np.full((4, 3), 1.0, "float32")})
    y = reference.outputs(case)[0]["outputs"]
    bit = 2.0**20 * 2.0**-23
    _, measured = reference.compare({"outputs": y + bit}, case)
    assert (measured["model_error"], measured["last_bit"]) == (0.0, bit)
    with pytest.raises(Unequal):
        reference.compare({"outputs": y + 3 * bit}, case)


def test_gate_4_is_not_held_to_rounding_that_cancels_by_chance():
    """Equal samples round equally: they are one draw, which may be a lucky one."""
    x = keras.Input((64,))
    y = x
    for width in [64] * 24 + [1]:
        y = keras.layers.Dense(width, kernel_initializer="orthogonal")(y)
    model = keras.Model(x, y)
    exact = computing_in(model, "float64")
    many = images(np.random.default_rng(0), (1000, 64))
    errors = np.abs(numpy(model(many)) - numpy(exact(many)))
    lucky = np.repeat(many[[errors.argmin()]], 16, axis=0)
    reference = Reference(model, exact, 0.0, 0.0)
    case = Case("a", "constant", {"inputs": lucky})
    y = reference.outputs(case)[0]["outputs"]
    usual = np.median(errors)
    _, measured = reference.compare({"outputs": y + usual}, case)
    assert measured["model_error"] < usual / 5 < measured["last_bit"]
    with pytest.raises(Unequal):
        reference.compare({"outputs": y + 8 * usual}, case)


def test_gate_4_knows_last_bits_without_a_float64_copy():
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Rescaling(2.0**20)(x - 1.0))
    reference = Reference(model, None, 1e-5, 1e-4)
    case = Case("a", "offset", {"inputs": np.full((4, 3), 1.0, "float32")})
    y = reference.outputs(case)[0]["outputs"]
    bit = 2.0**20 * 2.0**-23
    reference.compare({"outputs": y + bit}, case)
    with pytest.raises(Unequal):
        reference.compare({"outputs": y + 3 * bit}, case)


def test_gate_4_knows_that_sums_of_equal_numbers_drift():
    """Of constant images, not of others: 64 pixels, 8 bits."""
    x = keras.Input((8, 8, 1))
    model = keras.Model(x, keras.layers.Rescaling(2.0**20)(x - 1.0))
    reference = Reference(model, computing_in(model, "float64"), 1e-5, 1e-4)
    values = {"inputs": np.full((2, 8, 8, 1), 1.0, "float32")}
    bit = 2.0**20 * 2.0**-23
    for kind, bits in (("constant", 8), ("random", 1)):
        case = Case(kind, kind, values)
        y = reference.outputs(case)[0]["outputs"]
        reference.compare({"outputs": y + bits * bit}, case)
        with pytest.raises(Unequal):
            reference.compare({"outputs": y + 3 * bits * bit}, case)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gate_4_knows_that_weights_are_rounded_too(dtype):
    """A tie by what rounds in float16; without inputs whose last bit could tell."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.set_weights([np.zeros((1, 2)), np.array([1.0, 1.0004])])
    exact = computing_in(model, "float64")
    reference = Reference(model, exact, 0.0, 0.0, dtype)
    case = Case("a", "constant", {"inputs": np.zeros((2, 1), "float32")})
    # As float16 has it: the classes are equal, and the first one wins.
    rounded = {"outputs": np.ones((2, 2), "float32")}
    if dtype == "float32":
        with pytest.raises(Unequal):
            reference.compare(rounded, case)
        return
    reference.compare(rounded, case)
    bit = np.finfo("float16").eps
    with pytest.raises(Unequal, match="allowed 2.0e-03"):
        reference.compare({"outputs": rounded["outputs"] + [[4 * bit, 0]]}, case)
    assert model.get_weights()[1].tolist() == [1.0, np.float32(1.0004)]


def test_gate_4_fails_a_clear_class_in_float16():
    """One pixel of many, by less than is allowed for a number."""
    x = keras.Input((8, 8, 2))
    model = keras.Model(x, keras.layers.Activation("linear")(x))
    reference = Reference(model, None, 1e-2, 1e-4, "float16")
    values = np.zeros((1, 8, 8, 2), "float32")
    values[..., 1] = 8e-3
    case = Case("a", "random", {"inputs": values})
    outputs = values.copy()
    outputs[0, 3, 3] = [5e-3, 4e-3]
    with pytest.raises(Unequal, match="1 samples have another class"):
        reference.compare({"outputs": outputs}, case)
