"""Export to SavedModel and ONNX, and proof that it is equal."""

from .artefact import read as inspect
from .onnx.convert import export_onnx
from .parity.report import ParityReport
from .parity.runners import run_onnx, run_saved_model
from .parity.verify import verify
from .saved_model.write import export_saved_model

__all__ = [
    "ParityReport",
    "export_onnx",
    "export_saved_model",
    "inspect",
    "run_onnx",
    "run_saved_model",
    "verify",
]
