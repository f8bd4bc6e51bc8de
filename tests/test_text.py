"""Errors in one line."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from keras_en.text import as_json, one_line, printable


def test_by_hand():
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError()) == "ValueError()"
    assert one_line("abcdefgh" * 2, limit=8) == "abcdef ... gh"


def test_the_innermost_error_of_a_long_text_stays():
    inner = "Could not locate class 'Mine'. " + "config " * 200
    text = "no layer " + "config " * 200 + "Exception encountered: "
    shown = one_line(text + text + inner)
    assert shown.startswith("Could not locate class 'Mine'.") and len(shown) <= 405


def test_what_turns_a_line_around_is_not_printed():
    for code in (
        0x200E,
        0x200F,
        0x061C,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ):
        assert printable(f"a{chr(code)}b") == one_line(f"a{chr(code)}b") == "ab", code
    # Languages are printed, and what joins or parts their letters.
    text = "\u05d0\u05d1 \u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f52c"
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\x9b2Jb", "ab"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x1bP1$r\x1b\\a\x9dtitle\x9cb", "ab"),
        # Without an end there is no sequence: its text stays.
        ("\x1b]0;title\nnext\x1b[", "]0;title\nnext["),
        ("array[0m]", "array[0m]"),
    ],
)
def test_sequences_of_a_terminal_go_as_a_whole(text, expected):
    assert printable(text) == expected
    assert one_line(text) == expected.replace("\n", " ")


def test_json_without_numbers_that_are_none():
    values = {"a": [1.5, float("nan"), -math.inf], "b": (math.inf, None, np.float32(2))}
    text = as_json({**values, "path": Path("x")})

    def refuse(word):
        raise AssertionError(f"no JSON: {word}")

    read = json.loads(text, parse_constant=refuse)
    assert read == {"a": [1.5, None, None], "b": [None, None, "2.0"], "path": "x"}
