"""Errors in one line."""

from keras_en.text import one_line


def test_by_hand():
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError()) == "ValueError()"
    assert one_line("abcdefgh" * 2, limit=8) == "abcdef ... gh"


def test_the_innermost_error_of_a_long_text_stays():
    inner = "Could not locate class 'Mine'. " + "config " * 200
    text = "no layer " + "config " * 200 + "Exception encountered: "
    shown = one_line(text + text + inner)
    assert shown.startswith("Could not locate class 'Mine'.") and len(shown) <= 405
