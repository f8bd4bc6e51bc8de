"""What is compared with what, and for which inputs."""

from typing import NamedTuple

import keras
import numpy as np

from keras_en.keras_private import layers_of
from keras_en.text import one_line

from .. import artefact as artefacts
from .. import serving
from ..precision import computing_in
from .cases import cases
from .compare import Reference
from .report import NOT_RUN, Check


class Subject(NamedTuple):
    """An artefact, its model, and the inputs for which they are compared."""

    artefact: artefacts.Artefact
    model: object
    reference: Reference
    cases: list
    # Whether rank-4 tensors of the artefact have their channels behind the batch.
    flipped: bool
    # From the model's names to the artefact's, of inputs and of outputs.
    fed: dict
    fetched: dict

    def call(self, inputs, signature="serving_default"):
        """What a runner takes."""
        if self.flipped:
            inputs = {k: _moved(v, -1, 1) for k, v in inputs.items()}
        return signature, {self.fed.get(k, k): v for k, v in inputs.items()}

    def compare(self, outputs, case):
        return self.reference.compare(self.laid_out(outputs), case)

    def laid_out(self, outputs):
        """Outputs in the layout of the model."""
        names = {theirs: ours for ours, theirs in self.fetched.items()}
        return {
            names.get(k, k): _moved(v, 1, -1) if self.flipped else v
            for k, v in outputs.items()
        }

    @property
    def usual(self):
        """Random cases, one for each batch size."""
        first, found = next(iter(self.cases)).inputs, []
        shapes = {k: v.shape[1:] for k, v in first.items()}
        for case in self.cases:
            same = {k: v.shape[1:] for k, v in case.inputs.items()} == shapes
            if case.kind == "random" and same:
                found.append(case)
        return found


def _moved(array, source, target):
    return np.moveaxis(array, source, target) if array.ndim == 4 else array


def prepare(model, artefact, settings, half):
    if "serving_default" not in artefact.signatures:
        raise ValueError(f"{artefact.path} has no signature serving_default")
    inputs, outputs = artefact.signatures["serving_default"]
    known = serving.interface(model)
    fed = _names([x.name for x in known.inputs], inputs, artefact.path)
    fetched = _names(known.outputs, outputs, artefact.path)
    inputs = {ours: inputs[theirs] for ours, theirs in fed.items()}
    flipped = artefact.record.get("options", {}).get("layout") == "nchw"
    if flipped:
        inputs = {
            k: (dtype, [shape[0], *shape[2:], shape[1]] if len(shape) == 4 else shape)
            for k, (dtype, shape) in inputs.items()
        }
    drawn = cases(
        inputs,
        settings["batches"],
        settings["sizes"],
        settings["seed"],
        min(
            (
                layer.input_dim
                for layer in layers_of(model)
                if isinstance(layer, keras.layers.Embedding)
            ),
            default=10,
        ),
    )
    checks, exact = [], None
    if half:
        reason = "inputs around 1e4 exceed float16 after a convolution"
        drawn = [case for case in drawn if case.kind != "offset"]
        checks.append(Check(4, "offset", NOT_RUN, reason))
    try:
        exact = computing_in(model, "float64")
        if any("float32" in str(v.value.dtype) for v in exact.variables):
            exact = None
            raise ValueError("the backend has no float64; on JAX: JAX_ENABLE_X64=1")
    except ValueError as error:
        checks.append(Check(4, "float64 copy", NOT_RUN, one_line(error)))
    reference = Reference(model, exact, settings["atol"], settings["rtol"])
    if not any(case.kind == "pixel" for case in drawn):
        checks.append(Check(4, "one pixel", NOT_RUN, "the size is fixed"))
    for case in [case for case in drawn if case.kind == "pixel"]:
        try:
            for outputs in filter(None, reference.outputs(case)):
                for name, value in outputs.items():
                    if not np.isfinite(value).all():
                        # Its maps have no pixel left.
                        raise ValueError(f"{name} is not finite")
        except Exception as error:  # Whatever a layer raises.
            drawn = [other for other in drawn if other is not case]
            reason = f"the model itself cannot: {one_line(error)}"
            checks.append(Check(4, case.name, NOT_RUN, reason[:200]))
    return Subject(artefact, model, reference, drawn, flipped, fed, fetched), checks


def _names(ours, theirs, path):
    """The artefact's name of each of the model's tensors: of a single one it may be
    another."""
    if len(ours) == len(theirs) == 1:
        return dict(zip(ours, theirs, strict=True))
    if set(ours) != set(theirs):
        raise ValueError(
            f"{path} must have the inputs and outputs of the model, {sorted(ours)}. "
            f"Received: {sorted(theirs)}"
        )
    return {name: name for name in ours}
