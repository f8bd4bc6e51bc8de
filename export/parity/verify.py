"""Proof that an artefact computes what its model computes."""

import functools
import hashlib
import importlib.metadata
from pathlib import Path

import keras
import numpy as np

from keras_en.text import one_line

from .. import artefact as artefacts
from .. import serving
from ..saved_model import warmup
from . import runners, static
from .cases import Case, alone
from .compare import COPY, Unequal, distance, evaluated
from .report import FAILED, NOT_RUN, PASSED, Check, ParityReport
from .subject import prepare

BATCHES = (1, 7, 32)
# Of float32 artefacts, and of float16 ones.
TOLERANCES = {False: (1e-5, 1e-4), True: (1e-2, 1e-4)}
PACKAGES = (
    "keras-en",
    "keras",
    "tensorflow",
    "tensorflow-serving-api",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "openvino",
    "numpy",
)


def verify(model, artefact, batches=BATCHES, sizes=None, atol=None, rtol=None, seed=0):
    """Compares a SavedModel or an ONNX file with its model, as its servers run it.

    The gates:

    1. A SavedModel loads where neither keras nor keras_en can be imported: by Python's
       loader, by the graph-mode loader and, where gcc is installed, by a C program with
       the loader of TensorFlow Serving.
    2. Nothing that assigns, is random, runs Python or must be compiled by XLA is
       reached; variables are the same after the calls.
    3. An ONNX file passes the checker and strict shape inference, uses the standard
       domain only, and declares names and open sizes.
    4. Outputs equal the model's, `|y - model| <= atol + rtol * |model|`: for random
       inputs of every batch and size, constant ones, ones around 1e4 and ones of a
       single pixel, by every signature. The class of the largest output is the same,
       but for ties. Or twice what rounding does to the model, if that is more: the
       distance of its float32 outputs, for these inputs or for ones that differ in
       their last bit, from those of its float64 copy.
    5. Samples do not depend on the others in the batch, nor on their order.
    6. Another export has the same graph; no ExemplarNormalization in the compact form
       of ONNX files has more than 70 nodes.
    7. It is served: over gRPC with the messages of TensorFlow Serving, or by OpenVINO
       as a second runtime, where they are installed.

    Args:
        model: A Keras model, or the path of a `.keras` file.
        artefact: Path of a SavedModel's version, or of an ONNX file.
        batches: Batch sizes.
        sizes: Pairs of height and width, where the artefact leaves them open.
            `None`: 64 x 64 and 96 x 80.
        atol, rtol: Tolerances. `None`: 1e-5 and 1e-4; 1e-2 and 1e-4 for float16.
        seed: Integer.

    Returns:
        `ParityReport`.

    Raises:
        FileNotFoundError: A path leads nowhere.
        ValueError: A file cannot be read, or has other inputs than the model.
    """
    found = artefacts.read(artefact)
    record = found.record
    half = bool(record.get("options", {}).get("fp16"))
    settings = {
        "batches": list(dict.fromkeys(batches)),
        "sizes": [list(size) for size in sizes or ()] or None,
        "atol": TOLERANCES[half][0] if atol is None else atol,
        "rtol": TOLERANCES[half][1] if rtol is None else rtol,
        "seed": seed,
    }
    name = str(model) if isinstance(model, (str, Path)) else model.name
    original = serving.loaded(model)
    subject, checks = prepare(serving.prepare(original).model, found, settings, half)
    if subject.model is not original:
        checks.append(_check(4, "float32 copy", _copied, subject, original))
    checks += _saved_model(subject) if found.kind == "SavedModel" else _onnx(subject)
    checks += [
        _check(6, "graph", static.same_graph, found, subject.model),
        _check(6, "nodes", static.few_nodes, found),
    ]
    return ParityReport(
        str(artefact),
        found.kind,
        name,
        settings,
        _versions(),
        record,
        sorted(checks, key=lambda check: check.gate),
    )


def _check(gate, name, function, *args):
    """What `function` finds: text and numbers, or an exception."""
    try:
        detail, measured = function(*args)
    except runners.Unavailable as reason:
        return Check(gate, name, NOT_RUN, one_line(reason))
    except Exception as error:  # Whatever it is, the artefact has not passed.
        return Check(gate, name, FAILED, one_line(error))
    return Check(gate, name, PASSED, detail, measured)


def _saved_model(subject):
    checks = [_check(2, "graph", static.no_side_effects, subject.artefact)]
    for gate, name, runner in (
        (1, "Python loader", runners.python_loader),
        (1, "C program", runners.c_loader),
        (7, "gRPC PredictionService", runners.prediction_service),
    ):
        checks.append(_check(gate, name, _brief, subject, runner))
    others = list(_other_signatures(subject))
    more = [call for _, call, _ in others]
    digests = {}
    loader = functools.partial(runners.session_loader, digests=digests)
    try:
        found, more = _run(subject, loader, more)
    except RuntimeError as error:
        gate = 2 if "variables changed" in str(error) else 1
        failed = Check(gate, "graph-mode loader", FAILED, one_line(error))
        skipped = [Check(g, "all", NOT_RUN, f"gate {gate} failed") for g in (4, 5)]
        return [*checks, failed, *skipped]
    outputs = len(found) + len(more)
    checks += [
        Check(1, "graph-mode loader", PASSED, f"{outputs} calls"),
        Check(2, "variables", PASSED, f"unchanged after {outputs} calls"),
        _check(2, "weights", _same_weights, subject.model, digests),
        *_parity(subject, found),
    ]
    for (name, _, judge), outputs in zip(others, more, strict=True):
        checks.append(_check(4, name, judge, outputs))
    return checks


def _same_weights(model, digests):
    """That every variable of a SavedModel is one of the model's, bit by bit: inputs
    need not reach all of them."""
    arrays = [keras.ops.convert_to_numpy(v) for v in model.variables]
    own = {hashlib.sha256(array.tobytes()).hexdigest() for array in arrays}
    other = sorted(name for name, digest in digests.items() if digest not in own)
    if other:
        raise Unequal(f"{len(other)} are not the model's: {other[:5]}")
    return f"{len(digests)} variables are the model's", {"variables": len(digests)}


def _onnx(subject):
    checks = [
        _check(2, "graph", static.nothing_random, subject.artefact),
        _check(3, "form", static.well_formed, subject.artefact, subject.model),
        _check(7, "OpenVINO", _brief, subject, runners.openvino),
    ]
    try:
        found, _ = _run(subject, runners.onnxruntime)
    except Exception as error:  # onnxruntime has one class for each of its codes.
        failed = Check(7, "onnxruntime", FAILED, one_line(error))
        skipped = [Check(g, "all", NOT_RUN, "onnxruntime failed") for g in (4, 5)]
        return [*checks, failed, *skipped]
    served = Check(7, "onnxruntime", PASSED, f"{len(found)} calls")
    return [*checks, served, *_parity(subject, found)]


def _copied(subject, original):
    """That the copy which was exported is the model, as far as its dtype can tell."""
    case = _together(subject)
    outputs = evaluated(original, list(case.inputs.values()))
    expected, _ = subject.reference.outputs(case)
    apart = max(distance(outputs[k], value) for k, value in expected.items())
    if apart > COPY:
        raise Unequal(
            f"outputs are {apart:.1e} of their size away from those of the model; "
            "does a layer hold what is neither in its configuration nor a weight?"
        )
    return f"{apart:.1e} of the size of outputs away", {"distance": apart}


def _brief(subject, runner):
    """Compares what a runner finds for random inputs."""
    usual = subject.usual
    found = runner(subject.artefact.path, [subject.call(c.inputs) for c in usual])
    rows = [
        subject.compare(outputs, case)[1]
        for outputs, case in zip(found, usual, strict=True)
    ]
    difference = max(row["difference"] for row in rows)
    text = f"largest difference {difference:.1e}, {len(usual)} batches"
    return text, {"difference": difference}


def _run(subject, runner, more=()):
    """What a runner finds for all cases, the samples of one of them alone and in
    another order, and for `more` calls."""
    calls = [subject.call(case.inputs) for case in subject.cases]
    singles, permuted, _ = alone(_together(subject))
    calls += [subject.call(inputs) for inputs in (*singles, permuted)]
    found = runner(subject.artefact.path, [*calls, *more])
    return found[: len(calls)], found[len(calls) :]


def _together(subject):
    usual = subject.usual
    return usual[len(usual) // 2]


def _parity(subject, found):
    """The checks of `_run`."""
    count = len(subject.cases)
    checks = [
        _check(4, case.name, subject.compare, outputs, case)
        for case, outputs in zip(subject.cases, found, strict=False)
    ]
    case = _together(subject)
    together = subject.laid_out(found[subject.cases.index(case)])
    singles, last = found[count:-1], subject.laid_out(found[-1])
    order = np.argsort(alone(case)[2])
    ordered = {k: v[order] for k, v in last.items()}
    return [
        *checks,
        _check(5, "alone", _alone, subject, case, together, singles),
        _check(5, "order", _equal, subject, case, together, ordered),
    ]


def _alone(subject, case, together, singles):
    if len(singles) < 2:
        raise runners.Unavailable("the batch is fixed at 1")
    singles = [subject.laid_out(single) for single in singles]
    joined = {k: np.concatenate([s[k] for s in singles]) for k in together}
    return _equal(subject, case, together, joined)


def _equal(subject, case, expected, outputs):
    _, measured = subject.reference.compare(outputs, case, expected=expected)
    difference = measured["difference"]
    return f"largest difference {difference:.1e}", {"difference": difference}


def _other_signatures(subject):
    """Name, call and judge of the signatures besides "serving_default"."""
    case, known = _together(subject), subject.artefact.signatures
    if "ratios" in known:
        layers = serving.mixing_layers(subject.model)
        call = subject.call(case.inputs, "ratios")
        yield "ratios", call, lambda outputs: _ratios(subject, outputs, case, layers)
    if "serving_bytes" in known:
        images = warmup.images(3)
        call = subject.call({serving.BYTES: images}, "serving_bytes")
        yield "serving_bytes", call, lambda outputs: _bytes(subject, outputs, images)


def _ratios(subject, outputs, case, layers):
    for name in layers:
        if np.abs(outputs[name].sum(axis=1) - 1).max() > 1e-5:
            raise Unequal(f"the ratios of {name} do not sum to 1")
    text, measured = subject.reference.compare(
        outputs, case, serving.forward_with_ratios
    )
    return f"{len(layers)} layers, {text}", measured


def _bytes(subject, outputs, images):
    """Decoded by the same operations, called one by one, and computed by the model."""
    options, model = subject.artefact.record["options"], subject.model
    image = serving.interface(model, options["image_size"]).inputs[0]
    pixels = serving.decoded(image, options["mean"], options["std"])(images.tolist())
    case = Case("encoded", "encoded", {image.name: pixels.numpy()})
    return subject.compare(outputs, case)


def _versions():
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
