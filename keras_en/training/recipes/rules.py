"""What a key of a recipe may hold, and errors that say so."""

import dataclasses
import difflib
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_en.arguments import fault

# Of all numbers: products of two of them are no overflow, in float32 either.
LARGEST, LAST_SEED = 10**9, 2**32 - 1
SHOWN = reprlib.Repr()
SHOWN.maxstring = SHOWN.maxother = 60
SHOWN.maxlevel = 3


class Wrong(Exception):
    """A value is not allowed; raised by rules, and told by `read`."""


class Rule(NamedTuple):
    """`allowed` is read behind "must be"; `of` is the value as it is stored."""

    allowed: str
    of: Callable[[Any], Any]


def key(rule: Rule, default: Any = dataclasses.MISSING) -> Any:
    """A key of a recipe; without a default it has to be there."""
    metadata = {"rule": rule}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def part(kind: type, required: bool = False) -> Any:
    """A key that holds keys of its own; it may be absent if all have defaults."""
    if required:
        return dataclasses.field(metadata={"part": kind})
    return dataclasses.field(default_factory=kind, metadata={"part": kind})


def read(kind: type, values: Any, where: str, path: str = "") -> Any:
    """An object of a dataclass of such keys.

    Args:
        kind: The class.
        values: Mapping from keys to values.
        where: What is read, the first words of an error.
        path: The key that holds `values`, for errors.

    Raises:
        ValueError: A key is unknown or missing, a value is not allowed.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not isinstance(values, Mapping):
        keys = f"a mapping with keys out of {', '.join(fields)}"
        raise wrong(where, path, keys, values)
    result = {}
    for name, value in values.items():
        inner = f"{path}.{name}" if path else str(name)
        if name not in fields:
            raise unknown(where, inner, every_key(kind, path), value)
        metadata = fields[name].metadata
        if "part" in metadata:
            result[name] = read(metadata["part"], value, where, inner)
            continue
        try:
            result[name] = metadata["rule"].of(value)
        except (Wrong, ValueError, TypeError, OverflowError):
            raise wrong(where, inner, metadata["rule"].allowed, value) from None
    for name, field in fields.items():
        without = field.default is field.default_factory is dataclasses.MISSING
        if without and name not in result:
            inner = f"{path}.{name}" if path else name
            raise ValueError(f"{where}: key `{inner}` is missing. Received: none")
    return kind(**result)


def every_key(kind: type, path: str = "") -> list[str]:
    """The dotted keys of a class, and of the parts inside it."""
    keys = []
    for field in dataclasses.fields(kind):
        inner = f"{path}.{field.name}" if path else field.name
        keys.append(inner)
        if "part" in field.metadata:
            keys += every_key(field.metadata["part"], inner)
    return keys


def wrong(where: str, path: str, allowed: str, value: Any) -> ValueError:
    """The error of a value."""
    subject = f"{where}: key `{path}`" if path else where
    return fault(subject, f"be {allowed}", SHOWN.repr(value))


def require(condition: Any, where: str, path: str, allowed: str, value: Any) -> None:
    """Raises the error of a value unless `condition` holds."""
    if not condition:
        raise wrong(where, path, allowed, value)


def unknown(where: str, path: str, keys: Sequence[str], value: Any) -> ValueError:
    """The error of a key that is none of `keys`."""
    text = f"{where}: there is no key `{path}`"
    near = nearest(path, keys)
    text += f"; the nearest is `{near}`" if near else f"; keys are {', '.join(keys)}"
    return ValueError(f"{text}. Received: {path}={SHOWN.repr(value)}")


def nearest(word: str, words: Sequence[str]) -> str | None:
    """The word that is most like another, if one is."""
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return close[0]
    # The right name in the wrong place.
    tail = word.rpartition(".")[2]
    tails = {other.rpartition(".")[2]: other for other in words}
    close = difflib.get_close_matches(tail, tails, n=1)
    return tails[close[0]] if close else None


def unchanged(valid: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that returns a value for which `valid` holds, and takes no other."""

    def of(value):
        if not valid(value):
            raise Wrong
        return value

    return of


def integer(minimum: int, maximum: int = LARGEST) -> Rule:
    """An integer between two others."""

    def valid(value):
        return type(value) is int and minimum <= value <= maximum

    allowed = f"an integer of at least {minimum} and at most {maximum}"
    return Rule(allowed, unchanged(valid))


def number(minimum: float, maximum: float = LARGEST, above: bool = False) -> Rule:
    """A number between two others; `above`: not the smaller one itself."""

    def of(value):
        # YAML takes 1e-4 for a text: it wants 1.0e-4.
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Wrong
        result = float(value)
        if not minimum <= result <= maximum or (above and result == minimum):
            raise Wrong
        return result

    bound = f"above {minimum:g}" if above else f"of at least {minimum:g}"
    return Rule(f"a number {bound} and at most {maximum:g}", of)


def one_of(names: Sequence[str]) -> Rule:
    return Rule(f"one of {', '.join(names)}", unchanged(lambda value: value in names))


def flag() -> Rule:
    return Rule("true or false", unchanged(lambda value: isinstance(value, bool)))


def text(allowed: str = "a text", valid: Callable[[str], Any] = bool) -> Rule:
    """A text without line ends for which `valid` holds."""

    def is_text(value):
        return isinstance(value, str) and value.isprintable() and valid(value)

    return Rule(allowed, unchanged(is_text))


def optional(rule: Rule) -> Rule:
    """`null`, or what another rule allows."""
    return Rule(f"{rule.allowed}, or null", lambda x: None if x is None else rule.of(x))


def listed(rule: Rule, what: str) -> Rule:
    """A list, stored as a tuple."""

    def of(value):
        if not isinstance(value, list | tuple):
            raise Wrong
        return tuple(rule.of(each) for each in value)

    return Rule(f"a list of {what}", of)


def mapping(what: str) -> Rule:
    """A mapping from names to anything."""

    def of(value):
        if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
            raise Wrong
        return dict(value)

    return Rule(f"a mapping from {what}", of)


def steps() -> Rule:
    """A list of names, or of mappings of one name to what it needs."""

    def of(value):
        if isinstance(value, str) and value.isidentifier():
            return value
        one = isinstance(value, Mapping) and len(value) == 1
        if not one or not all(isinstance(name, str) for name in value):
            raise Wrong
        return dict(value)

    return listed(Rule("", of), "steps, each a name or a name: value")
