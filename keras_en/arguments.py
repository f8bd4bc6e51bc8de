"""Checks of arguments. Every error names the argument, what is allowed and what
was received."""

import importlib.util
import operator
from numbers import Real

import keras


def fault(subject, what, received, kind=ValueError):
    """The error of a subject: what it must be or do, and in words what was received."""
    return kind(f"{subject} must {what}. Received: {received}")


def require(condition, subject, what, received, kind=ValueError):
    """Raises the `fault` of a subject unless `condition` holds."""
    if not condition:
        raise fault(subject, what, received, kind)


def refused(name, allowed, received, kind=ValueError):
    """The error of an argument: what is allowed, and in words what was received."""
    return fault(f"Argument `{name}`", f"be {allowed}", received, kind)


def check(condition, name, allowed, received, attribute=None, kind=ValueError):
    """Raises an error of the argument `name` unless `condition` holds."""
    if not condition:
        shown = name if attribute is None else f"{name}.{attribute}"
        raise refused(name, allowed, f"{shown}={received!r}", kind)


def integer(name, value, minimum=None, not_zero=""):
    """`value` as an `int`.

    Args:
        minimum: Smallest allowed value.
        not_zero: If 0 is not allowed: why.

    Raises:
        TypeError: Not an integer.
        ValueError: Below `minimum`, or 0 where `not_zero` is given.
    """
    allowed = "an integer"
    if minimum is not None:
        allowed += f" of at least {minimum}"
    if not_zero:
        allowed += f" other than 0, {not_zero}"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise refused(name, allowed, f"{name}={value!r}", TypeError) from None
    valid = (minimum is None or number >= minimum) and not (not_zero and number == 0)
    check(valid, name, allowed, value)
    return number


def number(name, value, allowed):
    """`value` as a `float`. Raises `TypeError` if it is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refused(name, f"a number, {allowed}", f"{name}={value!r}", TypeError)
    return float(value)


def reduction(value):
    """`value`, if it is a positive integer, "auto" or `None`."""
    if isinstance(value, str):
        check(value == "auto", "reduction", 'a positive integer, "auto" or None', value)
    elif value is not None:
        value = integer("reduction", value, minimum=1)
    return value


def divisor(name, value, channels):
    """Raises `ValueError`, naming the nearest divisors, unless `value` divides."""
    if channels % value:
        fitting = [d for d in range(1, channels + 1) if channels % d == 0]
        nearest = [d for d in fitting if d < value][-1:]
        nearest += [d for d in fitting if d > value][:1]
        raise ValueError(
            f"Argument `{name}` must divide the number of channels, {channels}; "
            f"the nearest divisors are {nearest}. Received: {name}={value}"
        )


def check_backend(sentence, backends=("tensorflow",)):
    """Raises `RuntimeError`, with a sentence on what is needed, on other backends."""
    backend = keras.backend.backend()
    if backend not in backends:
        raise RuntimeError(f"{sentence}. Received: KERAS_BACKEND={backend}")


def check_installed(subject, packages, extra="all"):
    """Raises `RuntimeError`, about `subject`, if one of `packages` is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"{subject} needs {', '.join(missing)}: pip install 'keras-en[{extra}]', "
            f"or in a clone of keras_en, pip install '.[{extra}]'"
        )


def is_array(value):
    """Whether it is an array or a tensor of some library."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def are_arrays(values):
    """Several inputs; not a list of batches, which are structures themselves."""
    if isinstance(values, list | tuple) and not any(map(is_array, values)):
        return False
    return not is_array(values) and _is_structure(values)


def _is_structure(values):
    """Whether it is an array, or a dictionary, list or tuple of such structures."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return bool(values) and all(map(_is_structure, values))
    return is_array(values)
