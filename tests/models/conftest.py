import keras
import pytest

from tests.models.networks import NETWORKS


@pytest.fixture
def data_format():
    """Sets Keras's image data format, for one test."""
    yield keras.config.set_image_data_format
    keras.config.set_image_data_format("channels_last")


@pytest.fixture
def dtype_policy():
    """Sets Keras's dtype policy, for one test."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def builder(name):
    return NETWORKS[name]
