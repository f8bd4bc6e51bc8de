"""What tells the classes of images: a Keras model, a SavedModel or an ONNX file."""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from keras_en import export
from keras_en.arguments import require
from keras_en.cli import options as shared
from keras_en.export.pixels import DIVISORS, GREY, resolved
from keras_en.export.serving import BYTES, BYTES_SIGNATURE, loaded
from keras_en.training import experiment
from keras_en.training.data import Transform, images
from keras_en.training.evaluation import check_network
from keras_en.training.recipes import recipe as recipes
from keras_en.training.run_folder import class_names

_BATCH = 32
_DEFAULT = "serving_default"


class Classifier(NamedTuple):
    """What tells the classes of images.

    - `treated`: function of the bytes of an image file to what the network takes of it.
    - `scores`: function of a list of these, all of one shape, to `(N, classes)`.
    - `names`: of the classes, or `None`.
    """

    treated: Callable[[bytes], object]
    scores: Callable[[list], np.ndarray]
    names: Sequence[str] | None


def classifier(options: argparse.Namespace) -> Classifier:
    """The `Classifier` of the model, the folder of a training or the artefact of
    `options.model`, with `--mean` and `--std`.

    Raises:
        ValueError: It takes no images, or others, or cannot be read.
    """
    path = options.model
    if (path / experiment.MODEL).is_file():
        path = path / experiment.MODEL
    if path.suffix == ".keras":
        return _of_keras(path, options)
    artefact = export.inspect(path)
    names = _written(artefact.record) or class_names(path.parent)
    if artefact.kind == "ONNX":
        return _of_onnx(path, artefact, options)._replace(names=names)
    if BYTES_SIGNATURE in artefact.signatures and _scale(options) is None:
        _check_outputs(path, artefact, BYTES_SIGNATURE)
        treated = functools.partial(_decodable, channels=_channels(artefact))
        return Classifier(treated, lambda x: _of_bytes(path, x), names)
    dtype, shape = _input(path, artefact)
    size = _size(path, shape)

    def scores(batch):
        return export.run_saved_model(path, np.stack(batch).astype(dtype))

    return Classifier(_treated(path, size, options), scores, names)


def _written(record):
    """The names of classes that an export has written down: a SavedModel's record has
    them with all that a user has said."""
    further = record.get("metadata")
    values = {**record, **(further if isinstance(further, dict) else {})}
    return values.get("class_names")


def _of_keras(path, options):
    model = loaded(path)
    check_network(model, "MODEL", path, ranks=(2,))
    size = _size(path, model.inputs[0].shape)
    white = DIVISORS[resolved("auto", model)]

    def scores(batch):
        return model.predict(np.stack(batch), batch_size=_BATCH, verbose=0)

    return Classifier(
        _treated(path, size, options, 255 / white), scores, class_names(path.parent)
    )


def _of_onnx(path, artefact, options):
    dtype, shape = _input(path, artefact)
    shape = [n if isinstance(n, int) else None for n in shape]
    first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
    if first:
        shape = [shape[0], *shape[2:], shape[1]]
    size = _size(path, shape)
    together = shape[0] or _BATCH

    def scores(batch):
        x = np.stack(batch).astype(dtype)
        x = np.moveaxis(x, -1, 1) if first else x
        parts = [x[i : i + together] for i in range(0, len(x), together)]
        return np.concatenate([export.run_onnx(path, part) for part in parts])

    return Classifier(_treated(path, size, options), scores, None)


def _of_bytes(path, batch):
    encoded = np.empty(len(batch), object)
    encoded[:] = batch
    return export.run_saved_model(path, {BYTES: encoded}, BYTES_SIGNATURE)


def _decodable(data, channels):
    """The bytes of an image, which TensorFlow decodes as `serving_bytes` will.

    Raises:
        Broken: It cannot.
    """
    import tensorflow as tf

    try:
        tf.io.decode_image(data, channels, expand_animations=False)
    except tf.errors.OpError as error:
        raise images.Broken("which TensorFlow cannot decode") from error
    return data


def _channels(artefact):
    """Those of the images that a SavedModel takes; 0 where it does not say."""
    inputs, _ = artefact.signatures.get(_DEFAULT, ({}, {}))
    shapes = [shape for _, shape in inputs.values() if shape and len(shape) == 4]
    return shapes[0][-1] or 0 if shapes else 0


def _input(path, artefact):
    """Dtype and shape of what a SavedModel or an ONNX file takes."""
    _check_outputs(path, artefact, _DEFAULT)
    inputs = list(artefact.signatures[_DEFAULT][0].values())
    one = len(inputs) == 1 and inputs[0][1] is not None
    received = f"{path}, with inputs {inputs}"
    require(one, "MODEL", "have one input, of a rank that is known", received)
    return inputs[0]


def _check_outputs(path, artefact, signature):
    """Raises unless an artefact has a signature of one output."""
    signatures = artefact.signatures
    received = f"{path}, with {', '.join(signatures)}"
    what = f"have the signature {signature}"
    require(signature in signatures, "MODEL", what, received)
    outputs = list(signatures[signature][1])
    received = f"{path}, with outputs {', '.join(outputs)}"
    require(len(outputs) == 1, "MODEL", "have one output", received)


def _size(path, shape):
    """Height, width and channels that a network takes."""
    what = "be a network that takes images, (N, H, W, 3) or (N, H, W, 1)"
    images_only = len(shape) == 4 and shape[-1] in (1, 3)
    require(images_only, "MODEL", what, f"{path}, which takes {tuple(shape)}")
    return tuple(shape[1:])


def _scale(options):
    """Mean and deviation that were asked for, or `None`."""
    mean, std = options.mean, options.std
    return None if mean is None and std is None else (mean or 0.0, std or 1.0)


def _treated(path, size, options, white=1.0):
    """As the evaluation of the recipe beside a file does it; or resized, and from 0 to
    `white`."""
    shared.check_scaling(options, size[-1])
    scale = _scale(options)
    recipe, steps, side = path.parent / experiment.RECIPE, [], None
    if scale is None and recipe.is_file():
        part = recipes.load(recipe).data
        steps, side = list(part.evaluate), part.image_size
    elif scale is not None:
        steps = [{"normalize": {"mean": scale[0], "std": scale[1]}}]
    elif white != 1:
        steps = [{"normalize": {"mean": 0.0, "std": 1 / white}}]
    height, width, channels = size
    transform = Transform.of(steps, side).sized(side)

    def treated(data):
        pixels = images.decoded(data)
        if channels == 1:
            pixels = np.rint(pixels @ np.array(GREY))[..., None].astype("uint8")
        own, wanted = transform, (height, width)
        if None not in wanted and own.output_shape(pixels.shape)[:2] != wanted:
            own = Transform.of([{"resize": list(wanted)}, *steps], None)
        return own(pixels[None])[0][0]

    return treated
