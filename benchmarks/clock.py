"""Seconds since the first import, and lines that begin with them."""

import time

STARTED = time.monotonic()


def clock():
    return time.monotonic() - STARTED


def say(*words):
    print(f"{clock():7.1f} s", *words, flush=True)
