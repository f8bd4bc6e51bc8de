import keras
import pytest


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
