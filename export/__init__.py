"""Export to SavedModel and ONNX."""

from .onnx import export_onnx
from .parity import run_onnx, run_saved_model
from .saved_model import export_saved_model

__all__ = ["export_onnx", "export_saved_model", "run_onnx", "run_saved_model"]
