"""What an export computes: a model in inference mode, with names for what goes in and
comes out."""

import inspect
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_en.arguments import check, fault, refused, require
from keras_en.keras_private import layers_of, nodes, output_structure
from keras_en.layers.recording import recording, takes_ratios
from keras_en.text import one_line, unique_all
from keras_en.variables import check_finite

from .pixels import DIVISORS, GREY
from .precision import computing_in, structure

# As TensorFlow allows them, but for a backslash, which its nodes refuse.
_SCOPE, _ROOT_SCOPE = r"[A-Za-z0-9_./>-]*", r"[A-Za-z0-9.][A-Za-z0-9_./>-]*"
INPUT, OUTPUT, BYTES = "inputs", "outputs", "image_bytes"
BYTES_SIGNATURE = "serving_bytes"
_MODEL = "Argument `model`"


class Interface(NamedTuple):
    """Inputs and outputs of a model.

    - `inputs`: tuple of `keras.KerasTensor`, `(None, ...)`, with the names they are
      fed by: "inputs" if there is one, otherwise those of the model's input layers.
    - `outputs`: tuple of names: "outputs" if there is one, otherwise the keys of the
      dictionary that the model returns, or the names of its output layers.
    """

    inputs: tuple
    outputs: tuple


def loaded(model: Any) -> keras.Model:
    """A model, or that of a `.keras` file.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError, ValueError: It is neither a model nor a file that Keras can read.
    """
    if isinstance(model, keras.Model):
        return model
    if not isinstance(model, (str, Path)):
        allowed = "a Keras model or the path of a .keras file"
        raise refused("model", allowed, f"model={model!r}", TypeError)
    if Path(model).suffix != ".keras":
        raise refused("model", "a path that ends in .keras", model)
    if not Path(model).is_file():
        raise refused("model", "a file that exists", model, FileNotFoundError)
    if not zipfile.is_zipfile(model):
        wrong = "is not a file that Keras can read, truncated or of another kind"
        raise refused("model", "a .keras file that is whole", f"{model}, which {wrong}")
    try:
        return keras.models.load_model(model, compile=False)
    except Exception as error:  # Keras, zip files, HDF5 and the layers have their own.
        raise ValueError(
            f"{model} is not a file that Keras can read (layers of its own have to be "
            "imported before, keras-en: --import MODULE; those of this package by "
            f"`import keras_en`): {one_line(error)}"
        ) from error


class Prepared(NamedTuple):
    """A model that is ready for every export and comparison.

    - `original`: the `keras.Model`, handed in or loaded.
    - `model`: it computing in float32: itself, or a copy.
    - `interface`: the `Interface` of `model`.
    """

    original: keras.Model
    model: keras.Model
    interface: Interface


def prepare(model: Any) -> Prepared:
    """The `Prepared` of a model, of a `.keras` file, or of itself.

    Raises:
        FileNotFoundError, TypeError: See `loaded`.
        ValueError: So, or a weight is not finite, a layer is called with
            `training=True`, or the model cannot be copied to float32.
    """
    if isinstance(model, Prepared):
        return model
    original = loaded(model)
    interface(original)
    check_finite(original)
    _check_inference(original)
    _check_scopes(original)
    copy = computing_in(original, "float32")
    return Prepared(original, copy, interface(copy))


def _check_inference(model):
    for graph in layers_of(model):
        for operation, arguments, _, _ in nodes(graph):
            call = inspect.signature(getattr(operation, "call", len)).parameters
            usual = "training" in call and call["training"].default is True
            if arguments.kwargs.get("training") and not usual:
                # Keras would call it in inference mode: another function.
                what = "not hold a layer that was called with training=True"
                raise fault(_MODEL, what, f"{operation.name} in {graph.name}")


def _check_scopes(model):
    """TensorFlow calls each layer in a scope of its name, and allows fewer than Keras:
    `predict` cannot run them either."""
    if keras.backend.backend() != "tensorflow":
        return
    for layer in layers_of(model):
        pattern = _ROOT_SCOPE if layer is model else _SCOPE
        called = not isinstance(layer, keras.layers.InputLayer)
        if called and not re.fullmatch(pattern, layer.name):
            first = ", the first of which no _ - / >" if layer is model else ""
            raise ValueError(
                "Argument `model` must have layers whose names TensorFlow allows as a "
                f"scope, of A-Z a-z 0-9 _ . - / >{first}. Received: "
                f"{type(layer).__name__} {layer.name!r}; build it with another `name`"
            )


def spatial_axes(shape: Any) -> tuple[int, ...]:
    """The axes of an input between batch and channels."""
    first = 2 if keras.config.image_data_format() == "channels_first" else 1
    return tuple(range(first, first + len(shape) - 2))


def interface(model: keras.Model, image_size: Any = None) -> Interface:
    """The `Interface` of a model.

    Args:
        model: A functional or Sequential model, built.
        image_size: Height and width of rank-4 inputs, where the model leaves them
            open. `None`: as the model has them.

    Raises:
        ValueError: `model` has no known inputs, or others than `image_size`.
    """
    tensors, outputs = (getattr(model, k, None) or [] for k in ("inputs", "outputs"))
    allowed = (
        "a functional or Sequential model, built, so that its inputs are known; of "
        "another, make one: x = keras.Input(...); keras.Model(x, model(x))"
    )
    check(tensors and outputs, "model", allowed, model)
    right = all(len(tensor.shape) for tensor in outputs)
    require(right, _MODEL, "have outputs with a batch axis", outputs)
    if image_size is not None:
        _check_image_size(image_size, tensors)
    fed = [INPUT] if len(tensors) == 1 else [x.name for x in tensors]
    inputs = tuple(
        keras.KerasTensor(_filled(x, image_size), x.dtype, name=name)
        for x, name in zip(tensors, fed, strict=True)
    )
    names = [OUTPUT] if len(outputs) == 1 else unique_all(_output_names(model))
    _check_names(fed, names)
    return Interface(inputs, tuple(names))


def _filled(tensor, image_size):
    """The shape of an input of any batch, of a size that it may leave open."""
    shape = [None, *tensor.shape[1:]]
    if image_size is not None and len(shape) == 4:
        for axis, size in zip(spatial_axes(shape), image_size, strict=True):
            right = shape[axis] in (None, size)
            allowed = f"that of the model, {tuple(tensor.shape)}, where it has one"
            check(right, "image_size", allowed, tuple(image_size))
            shape[axis] = size
    return shape


def _output_names(model):
    """Keys of a dictionary, otherwise names of layers."""
    outputs = output_structure(model)
    if isinstance(outputs, dict) and len(outputs) == len(model.outputs):
        return [str(path[-1]) for path, _ in keras.tree.flatten_with_path(outputs)]
    return model.output_names


def _check_names(inputs, outputs):
    folded = [name.lower() for name in inputs]
    for name in inputs:
        plain = name.isidentifier() and name.isascii() and name != "self"
        if not plain or folded.count(name.lower()) > 1 or name in outputs:
            what = "have inputs whose names are identifiers, that differ in more than "
            what += "case, and are not names of outputs"
            raise fault(_MODEL, what, f"{inputs}, outputs {outputs}")


def _check_image_size(image_size, tensors):
    pair = isinstance(image_size, (list, tuple)) and len(image_size) == 2
    right = pair and all(isinstance(n, int) and n > 0 for n in image_size)
    allowed = "a height and a width, positive integers"
    check(right, "image_size", allowed, image_size)
    images = any(len(tensor.shape) == 4 for tensor in tensors)
    allowed = "None for a model without inputs of rank 4"
    check(images, "image_size", allowed, tuple(image_size))


def forward(model: keras.Model) -> Callable:
    """`model` in inference mode: a function from its inputs, one after the other, to a
    dictionary of outputs by name."""
    names = interface(model).outputs

    def serve(*tensors):
        inputs = keras.tree.pack_sequence_as(structure(model), tensors)
        outputs = keras.tree.flatten(model(inputs, training=False))
        return dict(zip(names, outputs, strict=True))

    return serve


def mixing_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """Every layer with ratios of its own for each sample, by its name, or by its path
    where several have that name; by `path_1`, ... where they share that, too."""
    layers = [layer for layer in layers_of(model) if takes_ratios(layer)]
    names = [layer.name for layer in layers]
    # In a model that was made by itself a path is no more than a name.
    keys = unique_all([x.name if names.count(x.name) == 1 else x.path for x in layers])
    return dict(zip(keys, layers, strict=True))


class RatiosInLoop(ValueError):
    """A layer is called in a loop of a graph, out of which its ratios do not come."""


def forward_with_ratios(model: keras.Model) -> Callable:
    """As `forward`, with the ratios `(N, K)` of every layer that has any, by its name;
    a layer that is called more than once has them at the name, `name_1`, ...; in a
    graph it raises `RatiosInLoop`."""
    serve, layers = forward(model), mixing_layers(model)

    def explain(*tensors):
        with recording(layers) as recorded:
            outputs = serve(*tensors)
        _check_outside_loops(outputs, recorded)
        names = [name for name, ratios in recorded.items() for _ in ratios]
        ratios = [r for ratios in recorded.values() for r in ratios]
        values = [*outputs.values(), *ratios]
        return dict(zip(unique_all([*outputs, *names]), values, strict=True))

    return explain


def _check_outside_loops(outputs, recorded):
    """A loop's body, as any inner function, is a graph of its own."""

    def graphs(tensors):
        return {id(getattr(tensor, "graph", None)) for tensor in tensors}

    outer = graphs(outputs.values())
    inside = [name for name, ratios in recorded.items() if graphs(ratios) - outer]
    if inside:
        raise RatiosInLoop(
            'Argument `signatures` must be without "ratios" for a model that runs an '
            "ExemplarNormalization in a loop or function of its own (an RNN's cell: "
            f"unroll=True has none). Received: a model with {', '.join(inside)}"
        )


def can_decode(inputs: tuple) -> bool:
    """Whether encoded images can be fed: one rank-4 input of known size, and of 1 or 3
    channels."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return False
    _, *size, channels = inputs[0].shape
    channels_last = keras.config.image_data_format() == "channels_last"
    return channels_last and None not in size and channels in (1, 3)


def decoded(image: Any, mean: Any, std: Any, pixels: str = "0-1") -> Callable:
    """A function from encoded images, a tensor `(N,)` of JPEG, PNG, GIF or BMP, to what
    a model takes.

    Each is decoded, made grey if the model takes one channel, resized to the model's
    size (bilinear, antialiased) and normalized as `(pixels / 255 - mean) / std`, or
    `(pixels - mean) / std`.

    Args:
        image: `keras.KerasTensor`, the input of the model, see `can_decode`.
        mean, std: A float, or one for each channel.
        pixels: "0-1" or "0-255": whether they are divided by 255.
    """
    import tensorflow as tf

    divisor = DIVISORS[pixels]
    height, width, channels = image.shape[1:]
    spec = tf.TensorSpec((height, width, channels), tf.float32)
    shift, scale = (tf.constant(value, tf.float32) for value in (mean, std))

    def decode(data):
        # As Pillow does, by which trainings decode: TensorFlow's own choice is a faster
        # one, up to 6 of 255 away.
        raw = tf.cond(
            tf.io.is_jpeg(data),
            lambda: tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_image(data, 3, expand_animations=False),
        )
        raw.set_shape((None, None, 3))
        if channels == 1:
            grey = tf.tensordot(tf.cast(raw, tf.float32), GREY, 1)
            raw = tf.round(grey)[..., None]
        return tf.image.resize(raw, (height, width), antialias=True)

    def images(data):
        raw = tf.map_fn(decode, tf.convert_to_tensor(data), fn_output_signature=spec)
        values = (raw / divisor - shift) / scale
        whole = tf.as_dtype(image.dtype).is_integer
        return tf.cast(tf.round(values) if whole else values, image.dtype)

    return images


def forward_bytes(
    model: keras.Model, image: Any, mean: Any, std: Any, pixels: str = "0-1"
) -> Callable:
    """As `forward`, from encoded images; arguments as in `decoded`."""
    serve, images = forward(model), decoded(image, mean, std, pixels)
    return lambda data: serve(images(data))
