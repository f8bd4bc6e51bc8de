"""What is seen of an artefact when it is run: gates 1, 2, 4, 5 and 7."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import keras
import numpy as np

from .. import serving
from ..pixels import resolved
from ..saved_model import warmup
from . import checks, runners, static, warmup_requests
from .cases import Call, Case, backwards, samples
from .checks import Check, Outcome, check
from .compare import COPY, distance, evaluated
from .subject import Subject


def saved_model_checks(subject: Subject) -> Iterator[Check]:
    """Gates 1, 2, 4, 5 and 7 of a SavedModel, each as soon as it has been looked at."""
    yield check(2, "graph", static.no_side_effects, subject.artefact)
    yield check(1, "Python loader", _random_cases, subject, runners.python_loader)
    yield check(1, "C program", _random_cases, subject, runners.c_loader)
    yield check(7, "warm-up requests", warmup_requests.played, subject.artefact)
    asked = list(_questions(subject))
    try:
        session = runners.session_loader(subject.artefact.path, _calls(asked))
    except RuntimeError as error:
        gate = 2 if isinstance(error, checks.VariablesChanged) else 1
        yield checks.failed(gate, "graph-mode loader", error)
        yield from _parity_not_run(f"gate {gate} failed")
        return
    count = f"{len(session.outputs)} calls"
    yield Check(1, "graph-mode loader", checks.PASSED, count)
    yield Check(2, "variables", checks.PASSED, f"unchanged after {count}")
    yield check(2, "weights", same_weights, subject.model, session.digests)
    yield from _judged(asked, session.outputs)


def onnx_checks(subject: Subject) -> Iterator[Check]:
    """Gates 2, 3, 4, 5 and 7 of an ONNX file, likewise."""
    yield check(2, "graph", static.nothing_random, subject.artefact)
    yield check(3, "form", static.well_formed, subject.artefact, subject.model)
    yield check(7, "OpenVINO", _random_cases, subject, runners.openvino)
    asked = list(_questions(subject))
    try:
        outputs = runners.onnxruntime(subject.artefact.path, _calls(asked))
    except Exception as error:  # onnxruntime has one class for each of its codes.
        yield checks.failed(7, "onnxruntime", error)
        yield from _parity_not_run("onnxruntime failed")
        return
    yield Check(7, "onnxruntime", checks.PASSED, f"{len(outputs)} calls")
    yield from _judged(asked, outputs)


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
        raise checks.Unequal(f"{len(other)} are not the model's: {other[:5]}")
    return f"{len(digests)} variables are the model's", {"variables": len(digests)}


def same_copy(subject: Subject, original: keras.Model) -> Outcome:
    """That the copy which was exported is the model, as far as its dtype can tell."""
    outputs = evaluated(original, list(subject.middle.inputs.values()))
    expected, _ = subject.reference.outputs(subject.middle)
    apart = max(distance(outputs[k], value) for k, value in expected.items())
    if apart > COPY:
        raise checks.Unequal(
            f"outputs are {apart:.1e} of their size away from those of the model; "
            "does a layer hold what is neither in its configuration nor a weight?"
        )
    return f"{apart:.1e} of the size of outputs away", {"distance": apart}


def _random_cases(subject: Subject, runner: Callable) -> Outcome:
    """Compares what a runner returns for random inputs."""
    cases = subject.random
    results = runner(subject.artefact.path, [subject.call(c.inputs) for c in cases])
    difference = max(
        subject.compare(outputs, case)[1]["difference"]
        for outputs, case in zip(results, cases, strict=True)
    )
    text = f"largest difference {difference:.1e}, {len(cases)} batches"
    return text, {"difference": difference}


class _Question(NamedTuple):
    """What an artefact is asked for a check.

    - `gate`, `name`: of the check.
    - `judge`: function of the outputs of each of the calls.
    - `calls`: list of `Call`.
    """

    gate: int
    name: str
    judge: Callable[..., Outcome]
    calls: list[Call]


def _questions(subject: Subject) -> Iterator[_Question]:
    """Gates 4 and 5."""
    calls = {case.name: subject.call(case.inputs) for case in subject.cases}
    for case in subject.cases:
        judge = partial(subject.compare, case=case)
        yield _Question(4, case.name, judge, [calls[case.name]])
    middle, together = subject.middle.inputs, calls[subject.middle.name]
    alone = [subject.call(sample) for sample in samples(middle)]
    order = subject.call(backwards(middle))
    yield _Question(5, "alone", partial(_alone, subject), [together, *alone])
    yield _Question(5, "order", partial(_order, subject), [together, order])
    if "ratios" in subject.artefact.signatures:
        call = subject.call(middle, "ratios")
        yield _Question(4, "ratios", partial(_ratios, subject), [call])
    if serving.BYTES_SIGNATURE in subject.artefact.signatures:
        images = warmup.images(3)
        call = Call(serving.BYTES_SIGNATURE, {serving.BYTES: images})
        yield _Question(4, call.signature, partial(_encoded, subject, images), [call])


def _calls(questions: Sequence[_Question]) -> list[Call]:
    """Those of all questions, each once."""
    return list({id(call): call for q in questions for call in q.calls}.values())


def _judged(questions: Sequence[_Question], outputs: Sequence[dict]) -> Iterator[Check]:
    """The checks of all questions; `outputs` are those of `_calls`."""
    ids = map(id, _calls(questions))
    answers = dict(zip(ids, outputs, strict=True))
    for gate, name, judge, calls in questions:
        yield check(gate, name, judge, *(answers[id(call)] for call in calls))


def _parity_not_run(reason):
    return [checks.not_run(gate, "all", reason) for gate in (4, 5)]


def _alone(subject, together, *alone):
    if len(alone) < 2:
        raise checks.Unavailable("the batch is fixed at 1")
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


def _ratios(subject, outputs):
    # A layer may be there and not be called, or be called twice.
    names = sorted(outputs.keys() - {*serving.interface(subject.model).outputs})
    for name in names:
        if np.abs(outputs[name].sum(axis=1) - 1).max() > 1e-5:
            raise checks.Unequal(f"the ratios of {name} do not sum to 1")
    text, measured = subject.reference.compare(
        outputs, subject.middle, serving.forward_with_ratios
    )
    return f"{len(names)} calls, {text}", measured


def _encoded(subject, images, outputs):
    """Decoded by the same operations, called one by one, as the model, whatever the
    record says of it, takes pixels, and computed by it. What the user chose counts."""
    record, model = subject.artefact.record, subject.model
    options = record["options"]
    image = serving.interface(model, options["image_size"]).inputs[0]
    # Files of older versions, which do not say, divide by 255.
    kind = resolved(options.get("pixels", "0-1"), model)
    right = resolved("auto", model)
    if record.get("pixels_from", "auto") == "auto" and kind != right:
        raise checks.Unequal(
            f"the artefact takes pixels as {kind}, and the model as {right}; "
            "export it again, or choose with pixels= (--pixels)"
        )
    decode = serving.decoded(image, options["mean"], options["std"], kind)
    case = Case("encoded", "encoded", {image.name: decode(images.tolist()).numpy()})
    return subject.compare(outputs, case)
