"""A model's call that gives the ratios of its layers, too, compiled as `predict` is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.layers.recording import recording, replaced_calls


class Outputs(NamedTuple):
    """Of one batch.

    - `ratios`: for each layer a list of arrays `(n, K)`, one a call.
    - `sizes`: for each layer the spatial size of its input in each call.
    - `outputs`: what the model returns, NumPy.
    """

    ratios: dict[str, list[np.ndarray]]
    sizes: dict[str, list[tuple[int, ...]]]
    outputs: Any

    @property
    def predicted(self) -> np.ndarray | None:
        """The classes `(n,)` that the model says, where its output is `(n, classes)`,
        that of the first output where there are several."""
        outputs = self.outputs
        if isinstance(outputs, dict):
            outputs = outputs.get("main", next(iter(outputs.values())))
        elif isinstance(outputs, list | tuple):
            outputs = outputs[0]
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            return None
        return outputs.argmax(1)


def traced(model: keras.Model, layers: dict[str, Any]) -> Callable[[Any], Outputs]:
    """A function of a batch `x`.

    Args:
        model: A built Keras model.
        layers: From path to layer, each with `return_ratios`.

    Raises:
        ValueError: When it is called: a layer does not run, or only where the backend
            traces it by itself.
    """
    sizes: dict[str, list] = {}

    def call(x):
        with recording(layers) as recorded:
            outer = ((layer, _sized(layer, sizes, p)) for p, layer in layers.items())
            sizes.clear()
            sizes.update({path: [] for path in layers})
            with replaced_calls(list(outer)):
                outputs = model(x, training=False)
        for path, calls in recorded.items():
            if not calls:
                raise ValueError(
                    "Argument `model` must run every ExemplarNormalization; or name "
                    f"in `layers` those that it runs. Received: {path}, which does not"
                )
        values = {p: [_own(p, r) for r in calls] for p, calls in recorded.items()}
        return values, outputs

    compiled = call if getattr(model, "run_eagerly", False) else _compiled(model, call)

    def run(x):
        ratios, outputs = keras.tree.map_structure(
            keras.ops.convert_to_numpy, compiled(x)
        )
        return Outputs(ratios, sizes, outputs)

    return run


def _sized(layer, sizes, path):
    """Its `call`, which notes the spatial size of its input."""
    original = layer.call

    def call(inputs, *args, **kwargs):
        shape = list(inputs.shape)
        del shape[layer.channel_axis], shape[0]
        sizes[path].append(tuple(shape))
        return original(inputs, *args, **kwargs)

    return call


def _own(path, ratios):
    """Ratios as a tensor of the trace that runs, which those of an inner one are
    not."""
    try:
        return keras.ops.multiply(ratios, 1)
    # What TensorFlow, in three ways, and JAX raise of a tensor of another trace.
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            "Argument `model` must run its layers one by one, as an RNN does with "
            "unroll=True, in no function that the backend traces. Received: "
            f"{path}, without values"
        ) from error


def _compiled(model, call):
    """`call` as the backend runs it best; a batch of another size is no new trace on
    TensorFlow, as in `predict`."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _graph(call)
    if backend == "jax":
        import jax

        variables = model.variables

        def stateless(values, x):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return call(x)

        jitted = jax.jit(stateless)
        return lambda x: jitted([v.value for v in variables], x)
    if backend == "torch":
        import torch

        def without_gradients(x):
            with torch.no_grad():
                return call(x)

        return without_gradients
    return call


def _graph(call):
    import tensorflow as tf

    functions: dict[Any, Any] = {}

    def run(x):
        x = keras.tree.map_structure(tf.convert_to_tensor, x)
        leaves = keras.tree.flatten(x)
        key = tuple((tuple(leaf.shape[1:]), leaf.dtype) for leaf in leaves)
        if key not in functions:
            specs = keras.tree.map_structure(
                lambda leaf: tf.TensorSpec((None, *leaf.shape[1:]), leaf.dtype), x
            )
            # Traced here, not when it is called: TensorFlow would warn of many traces,
            # one a network.
            function = tf.function(call, autograph=False)
            functions[key] = function.get_concrete_function(specs)
        return functions[key](x)

    return run
