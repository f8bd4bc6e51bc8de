"""One check of a gate, and why it may not pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_en.files import cannot_write
from keras_en.text import one_line

# What a check returns that passes: text, and numbers by name.
Outcome = tuple[str, dict[str, Any]]
PASSED, FAILED, NOT_RUN = "passed", "FAILED", "not run"


class Unequal(Exception):
    """The artefact is not what its model is."""


class Unavailable(Exception):
    """What a check needs is not here."""


class VariablesChanged(RuntimeError):
    """A variable has another value after the calls than before."""


class Check(NamedTuple):
    """One thing that was looked at.

    - `gate`: its number, 1 to 7.
    - `name`, `status` ("passed", "FAILED" or "not run"), `detail`: text.
    - `measured`: dictionary of numbers.
    """

    gate: int
    name: str
    status: str
    detail: str = ""
    measured: dict[str, Any] = {}


def check(gate: int, name: str, function: Callable, *args: Any) -> Check:
    """The `Check` that calls `function`, which returns an `Outcome` or raises.

    Raises:
        OSError: Of a full disk, which says nothing about the artefact.
    """
    try:
        detail, measured = function(*args)
    except Unavailable as reason:
        return not_run(gate, name, reason)
    except Exception as error:  # Whatever it is, the artefact has not passed.
        if cannot_write(error):
            raise
        return failed(gate, name, error)
    return Check(gate, name, PASSED, detail, measured)


def failed(gate: int, name: str, error: Exception) -> Check:
    return Check(gate, name, FAILED, one_line(error))


def not_run(gate: int, name: str, reason: object) -> Check:
    return Check(gate, name, NOT_RUN, one_line(reason))
