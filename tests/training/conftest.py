import keras
import pytest

from tests.backends import images
from tests.training.networks import SHAPE


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture
def data(rng):
    return images(rng, (21, *SHAPE)), rng.integers(0, 3, 21)
