"""What is compared with what, and for which inputs."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_en.arguments import require
from keras_en.keras_private import layers_of
from keras_en.text import one_line

from ..artefact import Artefact
from ..precision import computing_in
from ..serving import Prepared
from .cases import TEXT, Arrays, Call, Case, cases
from .checks import Check, Outcome, not_run
from .compare import Reference, evaluated
from .runners import DEFAULT

# Of the sizes that a model leaves open and an artefact has fixed, multiplied.
LARGEST = 2**24


class Translation(NamedTuple):
    """From the model's tensors to the artefact's, and back.

    - `inputs`, `outputs`: from the model's name of each to the artefact's.
    - `channels_moved`: whether rank-4 tensors of the artefact have their channels
      behind the batch, and the model's have them last.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    channels_moved: bool

    def to_artefact(self, arrays: Arrays) -> Arrays:
        """Inputs of the model, named and laid out as the artefact takes them."""
        return {self.inputs[k]: self._moved(v, -1, 1) for k, v in arrays.items()}

    def to_model(self, arrays: Arrays) -> Arrays:
        """Outputs of the artefact, named and laid out as the model's."""
        names = {theirs: ours for ours, theirs in self.outputs.items()}
        return {names.get(k, k): self._moved(v, 1, -1) for k, v in arrays.items()}

    def _moved(self, array, source, target):
        if self.channels_moved and array.ndim == 4:
            return np.moveaxis(array, source, target)
        return array


class Subject(NamedTuple):
    """An artefact, its model, and the inputs for which they are compared.

    - `skipped`: the checks for which there are none.
    """

    artefact: Artefact
    model: keras.Model
    reference: Reference
    cases: list[Case]
    skipped: list[Check]
    translation: Translation

    def call(self, inputs: Arrays, signature: str = DEFAULT) -> Call:
        """What a runner takes."""
        return Call(signature, self.translation.to_artefact(inputs))

    def compare(self, outputs: Arrays, case: Case) -> Outcome:
        """See `Reference.compare`; outputs are as the artefact gives them."""
        return self.reference.compare(self.translation.to_model(outputs), case)

    @property
    def random(self) -> list[Case]:
        """Random cases of the first size, one for each batch size."""
        first = _shapes(self.cases[0])
        return [c for c in self.cases if c.kind == "random" and _shapes(c) == first]

    @property
    def middle(self) -> Case:
        """The one of `random` whose samples are also run alone and in another order."""
        return self.random[len(self.random) // 2]


def subject_of(
    artefact: Artefact, prepared: Prepared, settings: dict[str, Any], float16: bool
) -> Subject:
    """Draws the inputs and copies the model to float64.

    Args:
        settings: "batches", "sizes", "atol", "rtol" and "seed".
        float16: Whether the artefact computes in float16.

    Raises:
        ValueError: The artefact has other inputs or outputs than the model.
    """
    model, translation = prepared.model, _translation(artefact, prepared)
    skipped: list[Check] = []
    inputs = _inputs(artefact, translation)
    _check_inputs(inputs, prepared, artefact.path)
    batches, sizes, seed = (settings[name] for name in ("batches", "sizes", "seed"))
    drawn = cases(inputs, batches, sizes, seed, _integers(model), _words(model))
    if {dtype for dtype, _ in inputs.values()} == {TEXT}:
        reason = "inputs are texts, which are neither constant nor far from 0"
        skipped.append(not_run(4, "constant, offset", reason))
    if float16:
        drawn = [case for case in drawn if case.kind != "offset"]
        reason = "inputs around 1e4 exceed float16 after a convolution"
        skipped.append(not_run(4, "offset", reason))
    exact = None
    try:
        exact = _float64_copy(model, drawn[0])
    except ValueError as error:
        skipped.append(not_run(4, "float64 copy", error))
    dtype = "float16" if float16 else "float32"
    reference = Reference(model, exact, settings["atol"], settings["rtol"], dtype)
    pixel = next((case for case in drawn if case.kind == "pixel"), None)
    if pixel is None:
        skipped.append(not_run(4, "one pixel", "the size is fixed"))
    elif reason := _impossible(pixel, reference):
        drawn = [case for case in drawn if case is not pixel]
        reason = f"the model itself cannot: {reason}"[:200]
        skipped.append(not_run(4, pixel.name, reason))
    return Subject(artefact, model, reference, drawn, skipped, translation)


def _translation(artefact, prepared):
    if DEFAULT not in artefact.signatures:
        raise ValueError(f"{artefact.path} has no signature {DEFAULT}")
    inputs, outputs = artefact.signatures[DEFAULT]
    texts = sorted(name for name, (dtype, _) in outputs.items() if dtype == TEXT)
    if texts:
        raise ValueError(f"Outputs of texts cannot be compared. Received: {texts}")
    moved = artefact.record.get("options", {}).get("layout") == "nchw"
    fed = [x.name for x in prepared.interface.inputs]
    named = _names(fed, inputs, artefact.path)
    returned = _names(prepared.interface.outputs, outputs, artefact.path)
    return Translation(named, returned, moved)


def _names(ours, theirs, path):
    """The artefact's name of each of the model's tensors: of a single one it may be
    another."""
    if len(ours) == len(theirs) == 1:
        return dict(zip(ours, theirs, strict=True))
    what = f"have the inputs and outputs of the model, {sorted(ours)}"
    require(set(ours) == set(theirs), path, what, sorted(theirs))
    return {name: name for name in ours}


def _inputs(artefact, translation):
    """Dtype and shape of each input by the model's name, in the model's layout."""
    theirs, inputs = artefact.signatures[DEFAULT][0], {}
    for name, other in translation.inputs.items():
        dtype, shape = theirs[other]
        if translation.channels_moved and len(shape) == 4:
            shape = [shape[0], *shape[2:], shape[1]]
        inputs[name] = dtype, shape
    return inputs


def _check_inputs(inputs, prepared, path):
    """Raises `ValueError` unless inputs of the model can be fed to the artefact: what
    a damaged file declares is not drawn at random."""
    for tensor in prepared.interface.inputs:
        shape, wanted = inputs[tensor.name][1] or [], tuple(tensor.shape)
        pairs = zip(shape, wanted, strict=False)
        fixed = [(size, n) for size, n in pairs if isinstance(size, int)]
        # Open in either, or the same.
        right = all(size == n or (n is None and size > 0) for size, n in fixed)
        drawn = math.prod(size for size, n in fixed if n is None)
        right = right and len(shape) == len(wanted) and drawn <= LARGEST
        what = f"have the inputs of the model, {tensor.name}: {wanted}"
        require(right, path, what, shape)


def _integers(model):
    """What integer inputs are below: every embedding has a row for them."""
    kind = keras.layers.Embedding
    sizes = [x.input_dim for x in layers_of(model) if isinstance(x, kind)]
    return min(sizes, default=10)


def _words(model):
    """What layers that take text know."""
    kinds = keras.layers.TextVectorization, keras.layers.StringLookup
    layers = [layer for layer in layers_of(model) if isinstance(layer, kinds)]
    return list(dict.fromkeys(w for layer in layers for w in layer.get_vocabulary()))


def _float64_copy(model, case):
    exact = computing_in(model, "float64")
    if any("float32" in str(v.value.dtype) for v in exact.variables):
        raise ValueError("the backend has no float64; on JAX: JAX_ENABLE_X64=1")
    try:
        evaluated(exact, list(case.inputs.values()))
    except Exception as error:  # Of the backend, as for MaxPooling3D of TensorFlow.
        raise ValueError(f"it cannot be run: {one_line(error)}") from error
    return exact


def _impossible(case, reference):
    """Why the model has no outputs for an image of one pixel; empty if it has."""
    try:
        for outputs in filter(None, reference.outputs(case)):
            for name, value in outputs.items():
                if not np.isfinite(value).all():
                    return f"{name} is not finite"  # Its maps have no pixel left.
    except Exception as error:  # Whatever a layer raises.
        return one_line(error)
    return ""


def _shapes(case):
    """The shapes of a case's samples."""
    return {k: v.shape[1:] for k, v in case.inputs.items()}
