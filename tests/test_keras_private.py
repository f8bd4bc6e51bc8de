"""The private names of Keras that are used: whether this Keras has them; and those of
TensorFlow that exports use."""

import keras
import pytest

from keras_en import keras_private
from keras_en.export import keras_private as export_private
from keras_en.training import keras_private as training_private

USES = {**keras_private.USES, **training_private.USES, **export_private.USES}
# Those that Keras's optimizers have under TensorFlow only, and its own.
TENSORFLOW = (
    "Optimizer._distribution_strategy",
    "Optimizer._all_reduce_sum_gradients",
    *export_private.USES,
)


@pytest.fixture(scope="module")
def examples():
    """An object of each owner, as it is used."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), "mse")
    model.optimizer.build(model.trainable_variables)
    from keras.src.backend.common import global_state, masking
    from keras.src.losses import loss
    from keras.src.trainers import compile_utils

    kinds = ("Layer", "Functional", "Model")
    owners = {"KerasTensor": inputs, "Optimizer": model.optimizer}
    owners |= {
        "Huber": keras.losses.Huber(),
        "CompileLoss": compile_utils.CompileLoss("mse"),
    }
    owners |= {"global_state": global_state, "loss": loss, "masking": masking}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        owners["Function"] = tf.function(abs)
    return {**dict.fromkeys(kinds, model), **owners}


def check(examples, name, use):
    owner, attribute = name.split(".")
    assert hasattr(examples[owner], attribute), (
        f"Keras {keras.__version__} no longer has {name}, used for {use}"
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.tensorflow] * (name in TENSORFLOW))
        for name in USES
    ],
)
def test_keras_has_the_name(examples, name):
    check(examples, name, USES[name])


def test_a_name_that_is_gone(examples, monkeypatch):
    monkeypatch.delattr(keras.Layer, "_flatten_layers")
    expected = (
        f"Keras {keras.__version__} no longer has Layer._flatten_layers, "
        "used for the layers inside a model"
    )
    with pytest.raises(AssertionError, match=expected):
        check(examples, "Layer._flatten_layers", USES["Layer._flatten_layers"])
