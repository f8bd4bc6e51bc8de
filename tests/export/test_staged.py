"""What is prepared once, and written in two steps."""

import pytest

from keras_en import export
from keras_en.export import serving
from keras_en.export.onnx.convert import build, staged_onnx
from keras_en.export.onnx.graph import graph_hash
from keras_en.export.saved_model.write import staged_saved_model
from tests.export.networks import linear

pytestmark = pytest.mark.tensorflow


def test_by_hand(tmp_path):
    with staged_onnx(linear(), tmp_path / "m.onnx") as staged:
        assert staged.path.is_file() and not (tmp_path / "m.onnx").exists()
        assert staged.publish() == tmp_path / "m.onnx"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("staging", "name"), [(staged_onnx, "m.onnx"), (staged_saved_model, "served")]
)
def test_what_is_not_published_is_lost(tmp_path, staging, name):
    with staging(linear(), tmp_path / "new" / name) as staged:
        assert staged.path.exists()
    assert not any(tmp_path.iterdir())


def test_a_model_is_prepared_once(tmp_path):
    model = linear()
    prepared = serving.prepare(model)
    assert prepared.original is prepared.model is model
    assert serving.prepare(prepared) is prepared
    assert prepared.interface.outputs == ("outputs",)
    path = export.export_onnx(prepared, tmp_path / "m.onnx")
    assert graph_hash(build(prepared)) == export.inspect(path).graph_hash
    path = export.export_saved_model(prepared, tmp_path / "served")
    assert export.inspect(path).record["parameters"] == 2
    saved, whole = build(path, opset=13), build(prepared, opset=13)
    assert [n.op_type for n in saved.graph.node] == [
        n.op_type for n in whole.graph.node
    ]
