"""Proof that an artefact computes what its model computes."""

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_en.arguments import check_installed

from .. import artefact as artefacts
from ..serving import Prepared, prepare
from . import served, static
from .checks import Check, check
from .report import ParityReport
from .subject import Subject, subject_of

BATCHES = (1, 7, 32)
# atol and rtol of float32 artefacts, and of float16 ones.
FLOAT32, FLOAT16 = (1e-5, 1e-4), (1e-2, 1e-4)
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


def verify(
    model: keras.Model | str | os.PathLike[str] | Prepared,
    artefact: str | os.PathLike[str],
    batches: Sequence[int] = BATCHES,
    sizes: Sequence[tuple[int, int]] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    progress: Callable[[Check], object] | None = None,
) -> ParityReport:
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
       their last bit (of a float16 file: of float16, and in weights that do), from
       those of its float64 copy. For constant inputs, whose sums
       round in one direction, the bits are sqrt(pixels) times larger. Where there is
       no such copy, the report says why, and the last bit alone decides.
       Texts are drawn from the vocabulary of the layers that take them, empty ones,
       unknown words and others than ASCII included; the C program does not read them.
    5. Samples do not depend on the others in the batch, nor on their order.
    6. Another export has the same graph; no ExemplarNormalization in the compact form
       of ONNX files has more than 70 nodes.
    7. It is served. Of a SavedModel every warm-up request is what TensorFlow Serving
       reads (with tensorflow-serving-api), names a signature and inputs that are
       there, and is answered by the graph-mode loader with outputs of the declared
       shapes. An ONNX file runs in onnxruntime and, where it is installed and can read
       the file, OpenVINO.

    Loaders are processes that end with this one; they, onnxruntime and OpenVINO fail
    their check where they have no answer in 10 minutes.

    Args:
        model: A Keras model, the path of a `.keras` file, or what
            `keras_en.export.serving.prepare` makes of one.
        artefact: Path of a SavedModel's version, or of an ONNX file.
        batches: Batch sizes.
        sizes: Pairs of height and width, where the artefact leaves them open.
            `None`: 64 x 64 and 96 x 80.
        atol, rtol: Tolerances. `None`: 1e-5 and 1e-4; 1e-2 and 1e-4 for float16.
        seed: Integer.
        progress: Function that is called with each `Check` of the report as soon as it
            has been looked at.

    Returns:
        `ParityReport`.

    Raises:
        FileNotFoundError: A path leads nowhere.
        OSError: A disk is full, on which the comparison keeps what it asks.
        RuntimeError: A package is missing.
        ValueError: A file cannot be read, or has other inputs than the model.

    Example:

    >>> import tempfile, keras
    >>> from keras_en import export
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export.export_onnx(model, f"{folder}/model.onnx")
    ...     report = export.verify(model, path, batches=(1, 2))
    >>> report.passed
    True
    """
    exported = artefacts.read(artefact)
    if exported.kind == "ONNX":
        check_installed("Comparing an ONNX file", ["onnxruntime"], "export")
    float16 = bool(exported.record.get("options", {}).get("fp16"))
    tolerances = FLOAT16 if float16 else FLOAT32
    settings: dict[str, Any] = {
        "batches": list(dict.fromkeys(batches)),
        "sizes": [list(size) for size in sizes or ()] or None,
        "atol": tolerances[0] if atol is None else atol,
        "rtol": tolerances[1] if rtol is None else rtol,
        "seed": seed,
    }
    prepared = prepare(model)
    subject = subject_of(exported, prepared, settings, float16)
    checks = []
    for one in _checks(subject, prepared):
        checks.append(one)
        if progress is not None:
            progress(one)
    return ParityReport(
        str(artefact),
        exported.kind,
        str(model) if isinstance(model, (str, Path)) else prepared.original.name,
        settings,
        _versions(),
        exported.record,
        sorted(checks, key=lambda one: one.gate),
    )


def _checks(subject: Subject, prepared: Prepared) -> Iterator[Check]:
    exported = subject.artefact
    yield from subject.skipped
    if prepared.model is not prepared.original:
        yield check(4, "float32 copy", served.same_copy, subject, prepared.original)
    if exported.kind == "SavedModel":
        yield from served.saved_model_checks(subject)
    else:
        yield from served.onnx_checks(subject)
    yield check(6, "graph", static.same_graph, exported, prepared)
    yield check(6, "nodes", static.few_nodes, exported)


def _versions():
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
