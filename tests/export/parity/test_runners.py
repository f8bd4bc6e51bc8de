"""Runners: what they cannot run is not run, and what is wrong fails."""

from types import SimpleNamespace

import pytest

from keras_en.export.parity import runners
from keras_en.export.parity.checks import FAILED, NOT_RUN, check

pytestmark = pytest.mark.tensorflow
# How OpenVINO reports a GRU's loop, and a file that is none: by one class.
LOOP = (
    "Check 'false' failed at src/frontends/common_translators/src/unconverted_ops.cpp:"
    "\nFrontEnd API failed with OpConversionFailure:\nModel wasn't fully converted."
    "\n-- Conversion is failed for: Loop-17"
)
DAMAGED = "FrontEnd API failed with GeneralFailure:\nModel can't be parsed"


@pytest.mark.parametrize("message, status", [(LOOP, NOT_RUN), (DAMAGED, FAILED)])
def test_operators_that_openvino_has_not(monkeypatch, onnx_file, message, status):
    openvino = pytest.importorskip("openvino")

    def compile_model(*_):
        raise RuntimeError(message)

    core = SimpleNamespace(compile_model=compile_model)
    monkeypatch.setattr(openvino, "Core", lambda: core)
    checked = check(7, "OpenVINO", runners.openvino, onnx_file, [])
    assert checked.status == status and message.split()[-1] in checked.detail
