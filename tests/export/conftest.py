import keras
import pytest

from keras_en import export
from tests.export.networks import residual


@pytest.fixture(scope="session")
def model():
    # Whichever test is the first.
    keras.utils.set_random_seed(0)
    return residual()


@pytest.fixture(scope="session")
def saved_model(model, tmp_path_factory):
    """The path of a version with every signature."""
    return export.export_saved_model(
        model, tmp_path_factory.mktemp("served"), mean=[0.4, 0.5, 0.6], std=0.25
    )


@pytest.fixture(scope="session")
def onnx_file(model, tmp_path_factory):
    return export.export_onnx(model, tmp_path_factory.mktemp("onnx") / "m.onnx")
