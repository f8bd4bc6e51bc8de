"""What a network holds that is not finite goes into no file and no other network."""

import keras
import numpy as np
import pytest

from keras_en import cli, export, training
from keras_en.surgery import replace_normalization
from keras_en.variables import not_finite


def network():
    inputs = x = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def spoilt(name, value):
    """A network, one number of one variable of which is `value`."""
    model = network()
    (variable,) = (v for v in model.weights if v.path.endswith(name))
    array = keras.ops.convert_to_numpy(variable.value).copy()
    array.flat[1] = value
    variable.assign(array)
    return model, variable.path


@pytest.mark.parametrize(
    "name, value",
    [("conv2d/kernel", np.nan), ("gamma", np.inf), ("moving_variance", np.nan)],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda model, folder: replace_normalization(model),
        pytest.param(
            lambda model, folder: export.export_saved_model(model, folder / "m"),
            marks=pytest.mark.tensorflow,
        ),
        pytest.param(
            lambda model, folder: export.export_onnx(model, folder / "m.onnx"),
            marks=pytest.mark.tensorflow,
        ),
        pytest.param(
            lambda model, folder: training.fit(
                model, np.zeros((2, 4, 4, 3), "float32"), np.zeros(2), verbose=0
            ),
            marks=pytest.mark.tensorflow,
        ),
    ],
    ids=["surgery", "SavedModel", "ONNX", "fit"],
)
def test_is_refused_by_name(use, name, value, tmp_path):
    keras.utils.clear_session()
    model, path = spoilt(name, value)
    with pytest.raises(ValueError, match=f"model` must hold finite .*: .* in {path}$"):
        use(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_infinite_constants_may_be():
    layer = keras.layers.Layer(name="mask")
    layer.add_weight(shape=(2,), initializer="zeros", trainable=False, name="lowest")
    layer.built = True
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.weights[0].assign([-np.inf, 0.0])
    assert not_finite(model) is None
    layer.weights[0].assign([np.nan, 0.0])
    assert not_finite(model) == layer.weights[0].path


@pytest.mark.tensorflow
@pytest.mark.parametrize("command", ["predict", "convert", "export"])
def test_commands_end_in_one_line(command, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4))
    image.save(tmp_path / "a.png")
    model, _ = spoilt("gamma", np.nan)
    model.save(tmp_path / "m.keras")
    out = ["--out", str(tmp_path / "out.keras")]
    words = {"predict": [str(tmp_path / "a.png")], "convert": out, "export": out}
    code = cli.main([command, str(tmp_path / "m.keras"), *words[command]])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and "numbers" in last and "Received: " in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "m.keras"]
