"""A model computing in another dtype."""

from typing import Any

import keras

from keras_en import files, lambdas
from keras_en.arguments import refused
from keras_en.keras_private import layers_of
from keras_en.text import one_line
from keras_en.variables import copy_value

FLOATS = ("float16", "bfloat16", "float32", "float64")


def structure(model: keras.Model) -> Any:
    """The inputs of a model as it takes them: a tensor, a list or a dictionary."""
    # A Sequential that was built by its first call has no `input`.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def computing_in(model: keras.Model, dtype: str) -> keras.Model:
    """`model` with every layer in `dtype`: itself if they are, otherwise a copy.

    Args:
        model: A functional or Sequential model, built.
        dtype: "float32" or "float64". Weights are cast.

    Raises:
        ValueError: The model cannot be copied, or a layer of the copy keeps its dtype.
    """
    if not _others(model, dtype):
        return model
    try:
        copy = _clone(model, dtype)
        remaining = _others(copy, dtype)
        if remaining:
            raise ValueError(f"{remaining} would keep their dtype")
        shapes = [[tuple(v.shape) for v in m.variables] for m in (copy, model)]
        if shapes[0] != shapes[1]:
            raise ValueError("the copy has other weights")
    except (NotImplementedError, TypeError, ValueError) as error:
        received = f"model={model!r}: {one_line(error)}"
        allowed = f"one that can be copied to {dtype}"
        raise refused("model", allowed, received) from error
    for new, old in zip(copy.variables, model.variables, strict=True):
        copy_value(new, old)
    for new, old in zip(layers_of(copy), layers_of(model), strict=True):
        _copy_assets(new, old)
    return copy


def _clone(model, dtype):
    policy = keras.config.dtype_policy()
    # For layers that their parents' code makes, which takes no configuration.
    keras.config.set_dtype_policy(dtype)

    def clone(layer):
        config = _rewritten(layer.get_config(), dtype)
        if isinstance(layer, keras.layers.Lambda):
            return lambdas.again(layer, config)
        return type(layer).from_config(config)

    try:
        inputs = keras.tree.map_structure(lambda x: _input(x, dtype), structure(model))
        return keras.models.clone_model(model, inputs, clone, recursive=True)
    finally:
        keras.config.set_dtype_policy(policy)


def _copy_assets(new, old):
    if hasattr(old, "save_assets"):  # As vocabularies, which are no variables.
        with files.temporary() as work:
            old.save_assets(str(work))
            new.load_assets(str(work))
    # What is computed from variables once, as the constants of `Normalization`.
    if hasattr(new, "finalize_state") and getattr(old, "built", False):
        new.finalize_state()


def _others(model, dtype):
    # A cast at the entry is no computation.
    layers = [x for x in layers_of(model) if not isinstance(x, keras.layers.InputLayer)]
    others = {*FLOATS} - {dtype}
    names = [layer.name for layer in layers if layer.compute_dtype in others]
    return names + [x.name for x in model.inputs if x.dtype in ("float16", "bfloat16")]


def _input(tensor, dtype):
    dtype = dtype if keras.backend.is_float_dtype(tensor.dtype) else tensor.dtype
    return keras.Input(batch_shape=tensor.shape, dtype=dtype, name=tensor.name)


def _rewritten(config, dtype):
    """A configuration with `dtype` for every floating dtype in it."""
    if isinstance(config, dict):
        if str(config.get("class_name")).endswith("DTypePolicy"):
            inner = config.get("config") or {}
            if "source_name" in inner:  # As int8 weights have it.
                return {**config, "config": {**inner, "source_name": dtype}}
            return dtype if any(f in str(inner) for f in FLOATS) else config
        return {
            key: dtype
            if key == "dtype" and str(value).removeprefix("mixed_") in FLOATS
            else _rewritten(value, dtype)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_rewritten(value, dtype) for value in config)
    return config
