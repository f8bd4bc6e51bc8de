"""What is seen of an artefact when it is run: gates 1, 2, 4, 5 and 7."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from .. import serving
from ..saved_model import warmup
from . import runners, static, warmup_requests
from .cases import Call, Case, backwards, samples
from .checks import (
    PASSED,
    Check,
    Unavailable,
    Unequal,
    VariablesChanged,
    check,
    failed,
    not_run,
)
from .compare import COPY, distance, evaluated
from .runners import Outputs
from .subject import Subject

Outcome = tuple[str, dict[str, Any]]


def saved_model_checks(subject: Subject) -> list[Check]:
    """Gates 1, 2, 4, 5 and 7 of a SavedModel."""
    checks = [
        check(2, "graph", static.no_side_effects, subject.artefact),
        check(1, "Python loader", _random_cases, subject, runners.python_loader),
        check(1, "C program", _random_cases, subject, runners.c_loader),
        check(7, "warm-up requests", warmup_requests.played, subject.artefact),
    ]
    others = list(_other_signatures(subject))
    calls = _calls(subject, [other.call for other in others])
    try:
        session = runners.session_loader(subject.artefact.path, calls.flat)
    except RuntimeError as error:
        gate = 2 if isinstance(error, VariablesChanged) else 1
        stopped = failed(gate, "graph-mode loader", error)
        return [*checks, stopped, *_parity_not_run(f"gate {gate} failed")]
    outputs, count = calls.grouped(session.outputs), len(session.outputs)
    checks += [
        Check(1, "graph-mode loader", PASSED, f"{count} calls"),
        Check(2, "variables", PASSED, f"unchanged after {count} calls"),
        check(2, "weights", same_weights, subject.model, session.digests),
        *_parity(subject, outputs),
    ]
    for other, arrays in zip(others, outputs.others, strict=True):
        checks.append(check(4, other.call.signature, other.judge, arrays))
    return checks


def onnx_checks(subject: Subject) -> list[Check]:
    """Gates 2, 3, 4, 5 and 7 of an ONNX file."""
    checks = [
        check(2, "graph", static.nothing_random, subject.artefact),
        check(3, "form", static.well_formed, subject.artefact, subject.model),
        check(7, "OpenVINO", _random_cases, subject, runners.openvino),
    ]
    calls = _calls(subject)
    try:
        outputs = runners.onnxruntime(subject.artefact.path, calls.flat)
    except Exception as error:  # onnxruntime has one class for each of its codes.
        stopped = failed(7, "onnxruntime", error)
        return [*checks, stopped, *_parity_not_run("onnxruntime failed")]
    ran = Check(7, "onnxruntime", PASSED, f"{len(outputs)} calls")
    return [*checks, ran, *_parity(subject, calls.grouped(outputs))]


def same_weights(model: keras.Model, digests: Mapping[str, str]) -> Outcome:
    """That every variable of a SavedModel is one of the model's, bit by bit: inputs
    need not reach all of them.

    Args:
        digests: The SHA-256 of every variable by its name.
    """
    arrays = [keras.ops.convert_to_numpy(v) for v in model.variables]
    own = {hashlib.sha256(array.tobytes()).hexdigest() for array in arrays}
    other = sorted(name for name, digest in digests.items() if digest not in own)
    if other:
        raise Unequal(f"{len(other)} are not the model's: {other[:5]}")
    return f"{len(digests)} variables are the model's", {"variables": len(digests)}


def same_copy(subject: Subject, original: keras.Model) -> Outcome:
    """That the copy which was exported is the model, as far as its dtype can tell."""
    outputs = evaluated(original, list(subject.middle.inputs.values()))
    expected, _ = subject.reference.outputs(subject.middle)
    apart = max(distance(outputs[k], value) for k, value in expected.items())
    if apart > COPY:
        raise Unequal(
            f"outputs are {apart:.1e} of their size away from those of the model; "
            "does a layer hold what is neither in its configuration nor a weight?"
        )
    return f"{apart:.1e} of the size of outputs away", {"distance": apart}


class _Groups(NamedTuple):
    """Calls, or their outputs: of every case; of each sample of the middle one alone;
    of its samples in the other order; of other signatures."""

    cases: list
    alone: list
    backwards: list
    others: list

    @property
    def flat(self):
        return [part for group in self for part in group]

    def grouped(self, outputs):
        """Outputs of `flat`, in groups."""
        remaining = iter(outputs)
        return _Groups(*([next(remaining) for _ in group] for group in self))


def _calls(subject: Subject, others: Sequence[Call] = ()) -> _Groups:
    middle = subject.middle
    return _Groups(
        [subject.call(case.inputs) for case in subject.cases],
        [subject.call(inputs) for inputs in samples(middle)],
        [subject.call(backwards(middle.inputs))],
        list(others),
    )


def _parity(subject: Subject, outputs: _Groups) -> list[Check]:
    """Gates 4 and 5."""
    together = outputs.cases[subject.cases.index(subject.middle)]
    return [
        *(
            check(4, case.name, subject.compare, arrays, case)
            for case, arrays in zip(subject.cases, outputs.cases, strict=True)
        ),
        check(5, "alone", _alone, subject, together, outputs.alone),
        check(5, "order", _order, subject, together, outputs.backwards[0]),
    ]


def _parity_not_run(reason):
    return [not_run(gate, "all", reason) for gate in (4, 5)]


def _alone(subject, together, alone):
    if len(alone) < 2:
        raise Unavailable("the batch is fixed at 1")
    joined = {k: np.concatenate([one[k] for one in alone]) for k in together}
    return _same_outputs(subject, together, joined)


def _order(subject, together, others):
    return _same_outputs(subject, together, backwards(others))


def _same_outputs(subject, expected, outputs):
    """Compares outputs of the artefact with others of it."""
    to_model = subject.translation.to_model
    _, measured = subject.reference.compare(
        to_model(outputs), subject.middle, expected=to_model(expected)
    )
    difference = measured["difference"]
    return f"largest difference {difference:.1e}", {"difference": difference}


def _random_cases(subject: Subject, runner: Callable) -> Outcome:
    """Compares what a runner returns for random inputs."""
    calls = [subject.call(case.inputs) for case in subject.random]
    difference = max(
        subject.compare(outputs, case)[1]["difference"]
        for outputs, case in zip(
            runner(subject.artefact.path, calls), subject.random, strict=True
        )
    )
    text = f"largest difference {difference:.1e}, {len(calls)} batches"
    return text, {"difference": difference}


class _Signature(NamedTuple):
    """A signature besides "serving_default".

    - `call`: what it is asked.
    - `judge`: function of what it returns.
    """

    call: Call
    judge: Callable[[Outputs], Outcome]


def _other_signatures(subject: Subject) -> Iterator[_Signature]:
    signatures = subject.artefact.signatures
    if "ratios" in signatures:
        call = subject.call(subject.middle.inputs, "ratios")
        yield _Signature(call, functools.partial(_ratios, subject))
    if "serving_bytes" in signatures:
        images = warmup.images(3)
        call = Call("serving_bytes", {serving.BYTES: images})
        yield _Signature(call, functools.partial(_encoded, subject, images))


def _ratios(subject, outputs):
    layers = serving.mixing_layers(subject.model)
    for name in layers:
        if np.abs(outputs[name].sum(axis=1) - 1).max() > 1e-5:
            raise Unequal(f"the ratios of {name} do not sum to 1")
    text, measured = subject.reference.compare(
        outputs, subject.middle, serving.forward_with_ratios
    )
    return f"{len(layers)} layers, {text}", measured


def _encoded(subject, images, outputs):
    """Decoded by the same operations, called one by one, and computed by the model."""
    options, model = subject.artefact.record["options"], subject.model
    image = serving.interface(model, options["image_size"]).inputs[0]
    pixels = serving.decoded(image, options["mean"], options["std"])(images.tolist())
    case = Case("encoded", "encoded", {image.name: pixels.numpy()})
    return subject.compare(outputs, case)
