"""Export to SavedModel and ONNX, and proof that it is equal."""

from .artefact import read as inspect
from .onnx import export_onnx
from .report import ParityReport
from .runners import run_onnx, run_saved_model
from .saved_model import export_saved_model
from .verify import verify

__all__ = [
    "ParityReport",
    "export_onnx",
    "export_saved_model",
    "inspect",
    "run_onnx",
    "run_saved_model",
    "verify",
]
