"""`keras-en export`, `verify` and `inspect`."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import keras

from keras_en import export
from keras_en.cli.options import fact, integer, listed, number, size
from keras_en.export.onnx.convert import DIMENSIONS, LAYOUTS, OPSETS
from keras_en.export.parity.verify import BATCHES
from keras_en.export.saved_model.write import SIGNATURES
from keras_en.export.serving import loaded

FORMATS = ("saved_model", "onnx")
# Options that one format has and the other has not.
OF_FORMAT = {
    "saved_model": ("version", "signature", "mean", "std", "no_warmup"),
    "onnx": ("opset", "dynamic", "layout", "fp16", "simplify"),
}
CONVERTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx"}


class GateFailed(Exception):
    """An artefact is not equal to its model."""

    def __init__(self, report):
        super().__init__(f"{len(report.failures)} checks failed")
        self.report = report


def add_commands(commands):
    """Adds the three to the subparsers of `keras-en`."""
    command = commands.add_parser(
        "export",
        help="write a SavedModel or an ONNX file, proven equal to the model",
        description="Exports the model of a .keras file in inference mode. What is "
        "written is run as its servers do and compared with the model before it gets "
        "its name: if a gate fails nothing is written, and the exit code is 1.",
    )
    _add_model(command)
    command.add_argument("--to", choices=FORMATS, default="saved_model")
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of the versions of a SavedModel, or an .onnx file",
    )
    command.add_argument(
        "--image-size",
        type=size,
        metavar="HxW",
        help="height and width, where the model leaves them open",
    )
    command.add_argument(
        "--metadata",
        type=fact,
        action="append",
        metavar="KEY=VALUE",
        help="whatever the artefact shall say about itself; may be repeated",
    )
    command.add_argument(
        "--class-names", type=Path, metavar="FILE", help="a text file, a name a line"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace what is there"
    )
    command.add_argument(
        "--no-verify", action="store_true", help="do not compare it with the model"
    )
    _add_gates(command)
    saved = command.add_argument_group("for --to saved_model")
    saved.add_argument(
        "--version", type=integer(1), help="default: one more than the last"
    )
    saved.add_argument(
        "--signature",
        choices=SIGNATURES,
        action="append",
        help="may be repeated; default: all that the model can have",
    )
    for name in ("mean", "std"):
        saved.add_argument(
            f"--{name}",
            type=listed(number(), "numbers"),
            metavar="X[,X,X]",
            help="of serving_bytes: (pixels / 255 - mean) / std",
        )
    saved.add_argument(
        "--no-warmup", action="store_true", help="write no warm-up requests"
    )
    onnx = command.add_argument_group("for --to onnx")
    onnx.add_argument(
        "--opset",
        type=integer(OPSETS[0], OPSETS[-1]),
        help=f"{OPSETS[0]} to {OPSETS[-1]}; default: 17",
    )
    onnx.add_argument(
        "--dynamic",
        type=listed(_dimension, "names of batch, height, width"),
        metavar="NAME[,NAME]",
        help="sizes left open; default: batch",
    )
    onnx.add_argument("--layout", choices=LAYOUTS, help="default: nhwc")
    onnx.add_argument(
        "--fp16", action="store_true", help="compute in float16, but for statistics"
    )
    onnx.add_argument("--simplify", action="store_true", help="by onnxslim")
    command.set_defaults(run=_export, interrupted="nothing was written")

    command = commands.add_parser(
        "verify",
        help="compare a SavedModel or an ONNX file with its model",
        description="Runs what was exported as its servers do, and compares it with "
        "the model. The exit code is 1 if a gate fails.",
    )
    _add_model(command)
    _add_artefact(command)
    command.add_argument(
        "--overwrite", action="store_true", help="replace the file of --report"
    )
    _add_gates(command)
    command.set_defaults(run=_verify, interrupted="nothing was written")

    command = commands.add_parser(
        "inspect",
        help="what a SavedModel or an ONNX file says about itself",
        description="Shows signatures, sizes, normalizations and what the export "
        "recorded.",
    )
    _add_artefact(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_inspect, interrupted="nothing was written")


def _add_model(command):
    command.add_argument("model", type=Path, metavar="MODEL", help="a .keras file")


def _add_artefact(command):
    command.add_argument(
        "artefact", type=Path, metavar="ARTEFACT", help="DIRECTORY/VERSION, or .onnx"
    )


def _add_gates(command):
    gates = command.add_argument_group("comparison")
    gates.add_argument(
        "--batches",
        type=listed(integer(1), "positive integers"),
        default=list(BATCHES),
        metavar="N[,N]",
        help=f"batch sizes; default: {','.join(map(str, BATCHES))}",
    )
    gates.add_argument(
        "--sizes",
        type=listed(size, "HEIGHTxWIDTH"),
        metavar="HxW[,HxW]",
        help="where they are open; default: 64x64,96x80",
    )
    gates.add_argument("--atol", type=number(0), help="default: 1e-5, for float16 1e-2")
    gates.add_argument("--rtol", type=number(0), help="default: 1e-4")
    gates.add_argument("--seed", type=integer(0, 2**32 - 1), default=0)
    gates.add_argument(
        "--report", type=Path, metavar="FILE", help="a .json or .md file to write"
    )


def _dimension(text):
    if text not in DIMENSIONS:
        raise argparse.ArgumentTypeError(text)
    return text


def _export(options):
    _check_format(options)
    _check_report(options)
    given = {
        name: value
        for name in OF_FORMAT[options.to]
        if (value := getattr(options, name)) not in (None, False)
    }
    if "signature" in given:
        given["signatures"] = given.pop("signature")
    if given.pop("no_warmup", False):
        given["warmup_requests"] = False
    for name in ("mean", "std"):
        if len(given.get(name, ())) == 1:
            (given[name],) = given[name]
    given.update(image_size=options.image_size, overwrite=options.overwrite)
    write = getattr(export, f"export_{options.to}")
    with _usage_errors():
        given["metadata"] = _metadata(options)
        model = loaded(options.model)
        if not options.no_verify:
            given["check"] = lambda path: _gates(options, model, path)
        try:
            path = write(model, options.out, **given)
        except GateFailed as failed:
            _say(failed.report, options)
            print(f"keras-en: {failed}; nothing was written", file=sys.stderr)
            return 1
    if not options.no_verify:
        _say(options.result, options)
    print(f"Written: {path}")
    return 0


def _gates(options, model, path):
    report = export.verify(
        model,
        path,
        options.batches,
        options.sizes,
        options.atol,
        options.rtol,
        options.seed,
    )
    options.result = report._replace(
        artefact=str(getattr(options, "out", path)), model=str(options.model)
    )
    if not report.passed:
        raise GateFailed(options.result)


def _verify(options):
    _check_report(options)
    with _usage_errors():
        try:
            _gates(options, loaded(options.model), options.artefact)
        except GateFailed as failed:
            _say(failed.report, options)
            print(f"keras-en: {failed}", file=sys.stderr)
            return 1
    _say(options.result, options)
    return 0


def _say(report, options):
    for check in report.checks:
        print(f"{check.gate}  {check.status:8}{check.name}: {check.detail}")
    if options.report:
        report.write(options.report)
        print(f"Written: {options.report}")


def _inspect(options):
    with _usage_errors():
        found = export.inspect(options.artefact)
    facts = {
        "kind": found.kind,
        "path": str(found.path),
        "signatures": {
            name: {"inputs": inputs, "outputs": outputs}
            for name, (inputs, outputs) in found.signatures.items()
        },
        "nodes": len(found.node_names),
        "nodes_of_layers": {
            kind: [min(counts), max(counts)]
            for kind, counts in found.nodes_of_layers.items()
        },
        "graph_hash": found.graph_hash,
        **{k: v for k, v in found.record.items() if k != "graph_hash"},
    }
    if options.json:
        print(json.dumps(facts, indent=1))
        return 0
    for name, value in facts.items():
        if name == "signatures":
            for signature, tensors in value.items():
                print(f"{signature}:")
                for side, sign in (("inputs", "<-"), ("outputs", "->")):
                    for tensor, (dtype, shape) in tensors[side].items():
                        sizes = ", ".join("?" if n is None else str(n) for n in shape)
                        print(f"  {sign} {tensor}: {dtype} ({sizes})")
        elif name != "layers":
            print(f"{name}: {value}")
    return 0


def _metadata(options):
    found = dict(options.metadata or ())
    if options.class_names is not None:
        if not options.class_names.is_file():
            raise RuntimeError(
                f"--class-names must be a file. Received: {options.class_names}"
            )
        try:
            text = options.class_names.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise RuntimeError(
                f"--class-names must be a text file. Received: {options.class_names}"
            ) from None
        found["class_names"] = text.splitlines()
    return found


def _check_format(options):
    (other,) = set(FORMATS) - {options.to}
    for name in OF_FORMAT[other]:
        if getattr(options, name) not in (None, False):
            raise RuntimeError(
                f"--{name.replace('_', '-')} is for --to {other}. "
                f"Received: --to {options.to}"
            )
    needed = ()
    if options.to == "onnx":
        converter = CONVERTERS.get(keras.backend.backend(), "tf2onnx")
        needed = ("onnx", "onnxruntime", converter)
    missing = [n for n in needed if importlib.util.find_spec(n) is None]
    if missing:
        raise RuntimeError(
            f"--to {options.to} needs {', '.join(missing)}: "
            "pip install 'keras-en[export]'"
        )


def _check_report(options):
    report = options.report
    if report is None:
        return
    if report.suffix not in (".json", ".md"):
        raise RuntimeError(
            f"--report must be a file that ends in .json or .md. Received: {report}"
        )
    if report.is_dir() or (report.exists() and not options.overwrite):
        raise RuntimeError(
            f"--report must be new, or --overwrite. Received: {report}, which exists"
        )
    if not report.parent.is_dir():
        raise RuntimeError(
            f"--report must be in a folder that exists. Received: {report}"
        )


class _usage_errors:
    """Errors of the library are one line on standard error."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, (ValueError, TypeError)):
            line = " ".join((str(error).strip() or repr(error)).split())
            raise RuntimeError(line) from error
