"""Types of options, whose errors say what is allowed."""

import argparse
import json
import math


def integer(minimum, maximum=None):
    """An integer between two others."""
    allowed = f"an integer of at least {minimum}"
    if maximum is not None:
        allowed += f" and at most {maximum}"

    def parse(text):
        number = int(text) if text.isdecimal() else minimum - 1
        if number < minimum or (maximum is not None and number > maximum):
            raise argparse.ArgumentTypeError(f"must be {allowed}. Received: {text}")
        return number

    return parse


def share(text):
    """A normalizer and its ratio."""
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be NAME=SHARE, such as batch=0.9. Received: {text}"
        ) from None


def number(minimum=-math.inf):
    """A finite number, not below another."""

    def parse(text):
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not minimum <= found < math.inf:
            kind = "a number" if minimum == -math.inf else f"a number from {minimum:g}"
            raise argparse.ArgumentTypeError(f"must be {kind}. Received: {text}")
        return found

    return parse


def listed(parse, what):
    """Values between commas."""

    def parse_all(text):
        try:
            return [parse(part) for part in text.split(",")]
        except (argparse.ArgumentTypeError, ValueError):
            raise argparse.ArgumentTypeError(
                f"must be {what} between commas. Received: {text}"
            ) from None

    return parse_all


def size(text):
    """Height and width: 224x224, or 224 for both."""
    parts = text.split("x")
    if not 1 <= len(parts) <= 2 or not all(p.isdecimal() and int(p) for p in parts):
        raise argparse.ArgumentTypeError(
            f"must be HEIGHTxWIDTH, such as 224x224. Received: {text}"
        )
    return int(parts[0]), int(parts[-1])


def fact(text):
    """KEY=VALUE; a value that is JSON is taken as such."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(
            f"must be KEY=VALUE, such as licence=MIT. Received: {text}"
        )
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
