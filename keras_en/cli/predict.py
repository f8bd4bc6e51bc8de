"""Runs `keras-en predict`."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from keras_en.arguments import fault, require
from keras_en.cli.classifiers import classifier
from keras_en.cli.options import class_names
from keras_en.cli.terminal import progress, say, say_json
from keras_en.training.data.images import Broken


def run(options: argparse.Namespace) -> None:
    encoded = [_bytes(path) for path in options.images]
    progress(f"Reading {options.model}")
    network = classifier(options)
    inputs = [
        _treated(network, path, data)
        for path, data in zip(options.images, encoded, strict=True)
    ]
    scores = _scores(network, inputs)
    what = "be a network of classes, with an output (N, classes)"
    received = f"{options.model}, with one of {scores.shape}"
    require(scores.ndim == 2, "MODEL", what, received)
    for path, row in zip(options.images, scores, strict=True):
        # Of a class that is masked a score may be infinite.
        right, received = not np.isnan(row).any(), f"{row.tolist()} for {path}"
        require(right, "MODEL", "give scores that are numbers", received)
    names = _names(options.class_names, network.names, scores.shape[1])
    kind = "probability" if _are_probabilities(scores) else "score"
    results = [
        {"image": str(path), "classes": _classes(row, names, options.top, kind)}
        for path, row in zip(options.images, scores, strict=True)
    ]
    if options.json:
        say_json(results)
    else:
        _say_results(results, kind)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"IMAGE must be a file that exists. Received: {path}")
    return path.read_bytes()


def _treated(network, path, data):
    try:
        return network.treated(data)
    except Broken as error:
        what = "be a whole image of a form that MODEL takes, see --help"
        raise fault("IMAGE", what, f"{path}, {error}") from error


def _scores(network, inputs):
    """Of all images; at once where their sizes are the same."""
    shapes = {getattr(x, "shape", None) for x in inputs}
    if len(shapes) == 1:
        return np.asarray(network.scores(inputs))
    return np.concatenate([network.scores([x]) for x in inputs])


def _names(path, written, count):
    """The names of so many classes; their numbers, where there are none."""
    if path is not None:
        names = class_names(path)
        if len(names) != count:
            raise ValueError(
                f"--class-names must hold a name for each of the {count} classes. "
                f"Received: {len(names)} names"
            )
        return names
    fits = isinstance(written, list) and len(written) == count
    return [str(name) for name in written] if fits else [str(i) for i in range(count)]


def _are_probabilities(scores):
    sums = scores.astype("float64").sum(1)
    return bool(scores.min() >= 0 and np.allclose(sums, 1, atol=1e-2))


def _classes(row, names, top, kind) -> list[dict[str, Any]]:
    best = np.argsort(-row, kind="stable")[:top]
    return [
        {"label": int(i), "name": names[i], kind: round(float(row[i]), 6)} for i in best
    ]


def _say_results(results, kind):
    for result in results:
        say(result["image"])
        for entry in result["classes"]:
            value = entry[kind]
            text = f"{value:8.2%}" if kind == "probability" else f"{value:10.4f}"
            say(f"{text}  {entry['name']}")
