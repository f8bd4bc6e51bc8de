"""Networks that a training begins with: weights of a file, or a whole network, whose
normalizations and last layer are replaced."""

from pathlib import Path

import keras

from keras_en.cli.terminal import say
from keras_en.export.pixels import resolved
from keras_en.export.serving import loaded
from keras_en.models import norms
from keras_en.models.weights import load_weights
from keras_en.surgery import layer_tree, replace_normalization, transplant
from keras_en.training import build
from keras_en.training.data import Transform
from keras_en.training.evaluation import check_network
from keras_en.training.experiment import Network
from keras_en.training.recipes.recipe import Recipe


def network(weights: Path | None, start: Path | None) -> Network | None:
    """What `Settings.network` has to be for `--weights` or `--from`.

    Raises:
        ValueError: Both are given.
    """
    if weights is not None and start is not None:
        raise ValueError(
            "--weights must be left out where --from has the weights. "
            f"Received: {weights} and {start}"
        )
    for option, path in (("--weights", weights), ("--from", start)):
        if path is not None and not path.is_file():
            raise ValueError(f"{option} must be a file that exists. Received: {path}")
    if weights is not None:
        return lambda recipe, facts, steps: _with_weights(weights, recipe, facts, steps)
    if start is not None:
        return lambda recipe, facts, steps: _converted(start, recipe, facts)
    return None


def _with_weights(path: Path, recipe: Recipe, facts: build.Facts, steps: int):
    model = build.network(recipe, facts, steps)
    if path.suffix != ".keras":
        load_weights(model, path)
        return model
    source = loaded(path)
    layers = {layer.name: layer for layer in source.layers}
    differ = [
        layer.name
        for layer in model.layers
        if layer.name in layers and type(layers[layer.name]) is not type(layer)
    ]
    if differ:
        source = _replaced(source, recipe)
        layers = {layer.name: layer for layer in source.layers}
    left = []
    for layer in model.layers:
        values = layers[layer.name].get_weights() if layer.name in layers else []
        if [v.shape for v in values] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(values)
        else:
            left.append(layer.name)
    if len(left) > len(model.layers) / 2:
        raise ValueError(
            f"--weights must be of a network like {model.name}. Received: {path}, in "
            f"which {len(left)} of its {len(model.layers)} layers are absent or have "
            f"other shapes, {left[0]} first"
        )
    if left:
        say(f"Not in {path}, begun anew: {', '.join(left)}")
    return model


def _converted(path: Path, recipe: Recipe, facts: build.Facts) -> keras.Model:
    """The network of a file with the normalization of the recipe, for the classes of
    the data."""
    model = loaded(path)
    check_network(model, "--from", path, ranks=(2,))
    if not _has_only(model, recipe.norm.name):
        model = _replaced(model, recipe)
    else:
        _check_arguments(model, recipe.norm)
    shape, wanted = model.input_shape, (None, *facts.image_shape)
    if any(a not in (None, b) for a, b in zip(shape, wanted, strict=True)):
        raise ValueError(
            f"--from must be a network for images of {wanted[1:]}; --image-size "
            f"changes that. Received: {path}, for {shape}"
        )
    _check_pixels(path, model, recipe)
    last = model.layers[-1]
    if model.output_shape[-1] == facts.classes and _is_softmax(last):
        return model
    if not isinstance(last, keras.layers.Dense):
        raise ValueError(
            "--from must be a network whose last layer is Dense, which is replaced for "
            f"the {facts.classes} classes of the data. Received: {path}, which ends in "
            f"{type(last).__name__}"
        )
    classes = keras.layers.Dense(facts.classes, "softmax", name="predictions")
    return keras.Model(model.inputs[0], classes(last.input), name=model.name)


def _check_arguments(model, norm):
    """Raises where layers that stay as they are have other arguments."""
    key, wanted = norm.own_arguments()
    if not wanted:
        return
    expected = norms.LAYERS[norm.name](**wanted).get_config()
    for _, layer in layer_tree.walk(model):
        if not isinstance(layer, norms.LAYERS[norm.name]):
            continue
        own = layer.get_config()
        if any(own[name] != expected[name] for name in wanted):
            raise ValueError(
                f"{key} must be that of --from, or left out, where its normalizations "
                f"are {norm.name} already: they stay as they are. Received: {wanted}, "
                f"and another in {layer.name}"
            )


def _check_pixels(path, model, recipe):
    """Raises where the network takes pixels from 0 to 255, and the recipe gives
    others."""
    steps = recipe.data.train, recipe.data.evaluate
    whites = [255 * Transform.of(part, 1).scaling(255)[0].max() for part in steps]
    if resolved("auto", model) == "0-255" and min(whites) < 100:
        step = '{"normalize": {"std": 0.00392156862745098}}'
        raise ValueError(
            "--from must be a network that takes pixels as the recipe gives them; of "
            f"one that takes 0 to 255, data.train and data.evaluate end in {step} "
            f"(--set). Received: {path}, which takes 0 to 255"
        )


def _replaced(model, recipe):
    """Epsilon and momentum stay those of the layers that are replaced."""
    return replace_normalization(
        model, recipe.norm.name, **recipe.norm.own_arguments()[1]
    )


def _has_only(model, norm):
    """Whether all normalizations are those of this name, and there are some."""
    layers = [layer for _, layer in layer_tree.walk(model)]
    own = [layer for layer in layers if isinstance(layer, transplant.NORMALIZATIONS)]
    return bool(own) and all(transplant.alike(layer, norm, {}) for layer in own)


def _is_softmax(layer):
    """Whether a layer makes probabilities, which the loss of recipes takes."""
    return getattr(layer, "activation", None) is keras.activations.softmax
