"""Runs `keras-en export`."""

import argparse
import json
from typing import Any

import keras

from keras_en.arguments import check_installed
from keras_en.cli import options as shared
from keras_en.cli import verify
from keras_en.cli.card import check_card, write_card
from keras_en.cli.terminal import progress, say, say_json
from keras_en.export.onnx.convert import staged_onnx
from keras_en.export.saved_model.write import staged_saved_model
from keras_en.export.serving import BYTES_SIGNATURE, prepare
from keras_en.text import one_line
from keras_en.training import experiment
from keras_en.training.data import Transform
from keras_en.training.data.transformations import Resize
from keras_en.training.recipes import recipe as recipes
from keras_en.training.run_folder import class_names

WRITERS: dict[str, Any] = {"saved_model": staged_saved_model, "onnx": staged_onnx}
NAMES = {"saved_model": "a SavedModel", "onnx": "an ONNX file"}
CONVERTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx"}


def run(options: argparse.Namespace) -> None:
    arguments = _arguments(options)
    if options.to == "onnx":
        converter = CONVERTERS.get(keras.backend.backend(), "tf2onnx")
        packages = ("onnx", "onnxruntime", converter)
        check_installed("--to onnx", packages, "export")
    verify.check_report(options.report, options.overwrite)
    check_card(options.card, options.overwrite)
    progress(f"Reading {options.model}")
    prepared = prepare(options.model)
    _add_class_names(arguments["metadata"], prepared.model, options.model)
    if options.to == "saved_model":
        channels = prepared.model.inputs[0].shape[-1]
        shared.check_scaling(options, channels)
        scaling = {k: arguments[k] for k in ("mean", "std") if k in arguments}
        arguments |= _plain(scaling)
        _add_scaling(arguments, options.model.parent / experiment.RECIPE, channels)
    progress(f"Writing {NAMES[options.to]}")
    report = None
    with WRITERS[options.to](prepared, options.out, **arguments) as staged:
        if not options.no_verify:
            report = verify.verified(options, prepared, staged.path)
            report = report._replace(artefact=str(options.out))
            # First: where there is no room for the report, nothing is written.
            verify.conclude(report, options, f"; {shared.NOTHING}")
        if options.card is not None:
            write_card(options.card, prepared.original, options.model, options.license)
            progress(f"Written: {options.card}")
        staged.publish()
    if options.json:
        parity = None if report is None else json.loads(report.to_json())
        say_json({"written": str(staged.target), "parity": parity})
    else:
        say(f"Written: {staged.target}")


def _arguments(options):
    """Those of the writer."""
    arguments = {
        "image_size": options.image_size,
        "overwrite": options.overwrite,
        "metadata": _metadata(options),
    }
    for name, (to, flag) in options.own.items():
        if name in options:
            if to != options.to:
                wanted = f"{flag} is for --to {to}"
                raise RuntimeError(f"{wanted}. Received: --to {options.to}")
            arguments[name] = getattr(options, name)
    return arguments


def _add_class_names(metadata, model, path):
    """Those that a training has written beside the model, unless there are others.

    Raises:
        RuntimeError: No output has a number for each.
    """
    names, sizes = metadata.get("class_names"), [y.shape[-1] for y in model.outputs]
    if names is not None and None not in sizes and len(names) not in sizes:
        wanted = " or ".join(str(size) for size in dict.fromkeys(sizes))
        raise RuntimeError(
            f"--class-names must hold a name for each output, {wanted}. "
            f"Received: {len(names)} names"
        )
    written = class_names(path.parent)
    if names is None and written is not None and len(written) in sizes:
        metadata["class_names"] = written


def _add_scaling(arguments, path, channels):
    """That of the recipe beside a model, unless another is asked for: `serving_bytes`
    gives the network what its training did."""
    served = BYTES_SIGNATURE in (arguments.get("signatures") or [BYTES_SIGNATURE])
    asked = {"mean", "std", "pixels"} & set(arguments)
    if asked or not served or not path.is_file():
        return
    try:
        transform = Transform.of(recipes.load(path).data.evaluate)
        transform.check_fits(channels, masks=False)
    except ValueError as error:  # It is of another network.
        progress(f"Left aside: {path.name}: {one_line(error)}")
        return
    values = {"mean": transform.mean, "std": transform.std}
    arguments |= {**_plain(values), "pixels": "0-1"}
    steps = [step for step in transform.steps if not isinstance(step, Resize)]
    if steps:
        progress(
            f"{path.name} cuts images for evaluation: serving_bytes resizes them whole"
        )


def _plain(scaling):
    """A list of one number is a number."""
    return {k: v[0] if len(v) == 1 else v for k, v in scaling.items()}


def _metadata(options):
    metadata = dict(options.metadata or ())
    if options.class_names is not None:
        metadata["class_names"] = shared.class_names(options.class_names)
    return metadata
