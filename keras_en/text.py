"""Short texts: errors in one line, names that no two share, digests; JSON."""

import hashlib
import json
import math
import re
import unicodedata

# What Keras writes before the error that is the cause.
_INNER = ("Exception encountered: ", "encountered during deserialization: ")
_DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
# Of a direction and without a width: left to right, right to left, and Arabic.
_MARKS = "\u200e\u200f\u061c"
# What terminals take as one (ECMA-48): CSI with its parameters, and OSC, DCS, SOS, PM
# and APC with their texts.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
)


def as_json(values):
    """The text of values, for programs: what is not a finite number, for which JSON has
    no word, is null; what JSON does not know is its `str`."""
    return json.dumps(_in_json(values), indent=1, default=str, allow_nan=False)


def _in_json(value):
    if isinstance(value, dict):
        return {key: _in_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(inner) for inner in value]
    wrong = isinstance(value, float) and not math.isfinite(value)
    return None if wrong else value


def own_name(layer):
    """Its name without the number that Keras puts behind names of its own, which counts
    the layers of a process."""
    bare = re.sub(r"_\d+$", "", layer.name)
    is_kerass = bare.replace("_", "") == type(layer).__name__.lower()
    return bare if is_kerass else layer.name


def one_line(error, limit=400):
    """What an exception says, in one line of about `limit` characters,
    without those that control a terminal.

    Of a longer text the innermost of the errors that Keras puts into one another is
    shown, behind whole configurations; and of that the beginning and the end.
    """
    text = printable(" ".join((str(error).strip() or repr(error)).split())).strip()
    if limit is None or len(text) <= limit:
        return text
    for mark in _INNER:
        text = text.rpartition(mark)[2] or text
    if len(text) <= limit:
        return text
    end = limit // 4
    return f"{text[: limit - end]} ... {text[-end:]}"


def printable(text):
    """Text without sequences that control a terminal, without control characters, a
    line's end excepted, without those that turn what is beside them around, and without
    halves of characters, which no terminal and no file takes."""
    text = _SEQUENCES.sub("", text)
    return "".join(c for c in text if c == "\n" or not _controls(c))


def _controls(character):
    wrong = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    direction = unicodedata.bidirectional(character)
    return wrong or character in _MARKS or direction in _DIRECTIONS


def unique(name, others, separator="_", start=1):
    """`name`, with a number behind it if it is among `others`.

    Args:
        name: Text.
        others: Container of the names that are in use.
        separator: What stands between name and number.
        start: The first number.
    """
    candidate, number = name, start
    while candidate in others:
        candidate = f"{name}{separator}{number}"
        number += 1
    return candidate


def unique_all(names):
    """The names, with a number behind each that was there before."""
    result = []
    for name in names:
        result.append(unique(name, result))
    return result


def digest(*parts):
    """The SHA-256 of a list of values, as hexadecimal digits."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def table(head, rows):
    """A Markdown table whose columns stand below one another.

    >>> print(table(("layer", "n"), [("stem", 3), ("head", 12)]))
    | layer | n  |
    |-------|----|
    | stem  | 3  |
    | head  | 12 |
    """
    texts = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in texts]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
