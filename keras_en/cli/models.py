"""Runs `keras-en models`."""

import argparse

from keras_en.cli.terminal import progress, say, say_json
from keras_en.models import summary


def run(options: argparse.Namespace) -> None:
    networks = options.network or list(summary.NETWORKS)
    rows = []
    for network in networks:
        progress(f"Counting {network}")
        rows += summary.summary_table([network], options.norm)
    if options.json:
        say_json([row._asdict() for row in rows])
    else:
        say(summary.markdown(rows))
