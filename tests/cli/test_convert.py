"""`keras-en convert`."""

import json

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, cli
from keras_en.models import CifarResNet
from tests.backends import images, numpy
from tests.networks import Late

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "old.keras"
    CifarResNet(8, input_shape=(8, 8, 3), norm="bn").save(path)
    return path


def test_by_hand(tmp_path, capsys):
    """(5 - 3) / sqrt(3 + 1) * 2 + 10 is 12."""
    old = keras.layers.BatchNormalization(epsilon=1.0, name="norm")
    model = keras.Sequential([keras.Input((1, 1, 1)), old])
    old.set_weights([np.array([value]) for value in (2.0, 10.0, 3.0, 3.0)])
    model.save(tmp_path / "old.keras")
    source, out = tmp_path / "old.keras", tmp_path / "new.keras"
    command = ["convert", str(source), "--out", str(out)]
    assert cli.main([*command, "--initial-ratio", "batch=1.0"]) == 0
    replaced = "replaced norm: BatchNormalization -> ExemplarNormalization"
    assert replaced in capsys.readouterr().out
    new = keras.models.load_model(out)
    assert new(np.full((1, 1, 1, 1), 5.0)).numpy().item() == pytest.approx(12.0)
    assert cli.main([*command, "--overwrite", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["written"] == str(out) and list(values["replaced"]) == ["norm"]


def test_a_file_becomes_another(rng, source, capsys):
    out = source.with_name("new.keras")
    command = ["convert", str(source), "--out", str(out)]
    assert cli.main([*command, "--initial-ratio", "batch=1.0"]) == 0
    printed = capsys.readouterr().out
    assert "9 layers replaced, 10 copied" in printed and str(out) in printed
    old, new = (keras.models.load_model(p) for p in (source, out))
    x = images(rng, (2, 8, 8, 3))
    np.testing.assert_allclose(numpy(new(x)), numpy(old(x)), atol=1e-6)
    assert isinstance(new.get_layer("stem_norm"), ExemplarNormalization)
    assert cli.main([*command, "--to", "sn", "--overwrite"]) == 0
    names = [path.name for path in source.parent.iterdir()]
    assert sorted(names) == ["new.keras", "old.keras"]


@keras.saving.register_keras_serializable("tests.convert")
class Stem(keras.Sequential):
    """A class with a constructor of its own."""

    def __init__(self, **kwargs):
        norm = keras.layers.BatchNormalization(name="norm")
        super().__init__([keras.Input((4,)), norm, Late(name="late")], **kwargs)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_model_that_becomes_a_plain_one_is_said(tmp_path, capsys):
    """And what the code of a layer makes is in the new file."""
    source, out = tmp_path / "old.keras", tmp_path / "new.keras"
    Stem(name="stem").save(source)
    assert cli.main(["convert", str(source), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "  stem: Stem -> a plain model of the same graph",
        f"Written: {out}",
    ]
    new = keras.models.load_model(out)
    assert type(new) is keras.Sequential
    assert isinstance(new.get_layer("late").norm, ExemplarNormalization)


def test_wrong_input_writes_nothing(source, tmp_path, capsys):
    text = tmp_path / "text.keras"
    text.write_text("text")
    original = source.read_bytes()

    def refused(match, *arguments):
        before = sorted(tmp_path.iterdir())
        try:
            code = cli.main(["convert", *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert code == 2 and match in error, error
        assert sorted(tmp_path.iterdir()) == before

    new = tmp_path / "new.keras"
    refused("MODEL must be a file that exists", tmp_path / "no.keras", "--out", new)
    refused("MODEL must be a path of a .keras file", tmp_path / "m.h5", "--out", new)
    refused("must be a .keras file that is whole", text, "--out", new)
    refused("--out must be a path of a .keras file", source, "--out", tmp_path / "n.h5")
    refused("which exists; --overwrite replaces it", source, "--out", text)
    refused("in a folder that exists", source, "--out", tmp_path / "no" / "n.keras")
    refused("to replace by 'bn'", source, "--to", "bn", "--out", new)
    refused("invalid choice: 'xn'", source, "--to", "xn", "--out", new)
    refused("NAME=SHARE", source, "--out", new, "--initial-ratio", "batch")
    refused("may name", source, "--out", new, "--initial-ratio", "bach=0.5")
    refused("required: --out", source)
    assert source.read_bytes() == original
