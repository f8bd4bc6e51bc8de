"""Networks that a command cannot use end it with one line that says what it takes."""

import keras
import pytest

from keras_en import ExemplarNormalization, cli

pytestmark = pytest.mark.tensorflow
Image = pytest.importorskip("PIL.Image")
layers = keras.layers
SIZE = (4, 4, 3)


@keras.saving.register_keras_serializable("tests")
class Subclass(keras.Model):
    """Whose inputs nobody knows."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm, self.pool = ExemplarNormalization(), layers.GlobalAveragePooling2D()

    def call(self, x):
        return self.pool(self.norm(x))


def functional(outputs, inputs=1):
    tensors = [keras.Input(SIZE) for _ in range(inputs)]
    x = ExemplarNormalization()(layers.add(tensors) if inputs > 1 else tensors[0])
    return keras.Model(tensors if inputs > 1 else tensors[0], outputs(x))


def pooled(x):
    return layers.GlobalAveragePooling2D()(x)


def called():
    model = Subclass()
    model(keras.ops.zeros((1, *SIZE)))
    return model


def deferred():
    return keras.Sequential([ExemplarNormalization(), layers.GlobalAveragePooling2D()])


# What there is, and whether its ratios can be looked at.
NETWORKS = {
    "unbuilt": (Subclass, False),
    "subclass": (called, True),
    "deferred": (deferred, False),
    "inputs": (lambda: functional(pooled, inputs=2), False),
    "outputs": (lambda: functional(lambda x: [pooled(x), pooled(x)]), True),
    "names": (lambda: functional(lambda x: {"a": pooled(x), "b": pooled(x)}), True),
    "name": (lambda: functional(lambda x: {"a": pooled(x)}), True),
    "numbers": (lambda: functional(lambda x: keras.ops.mean(x, (1, 2, 3))), True),
    "number": (lambda: functional(keras.ops.mean), True),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of three classes."""
    folder = tmp_path_factory.mktemp("photos")
    for name in "abc":
        (folder / name).mkdir()
        for i in range(4):
            Image.new("RGB", (4, 4), (40 * i, 0, 99)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_are_no_classifiers(name, photos, tmp_path, capsys):
    build, has_ratios = NETWORKS[name]
    path = tmp_path / "m.keras"
    build().save(path)
    data = ["--data", f"folder:{photos}"]
    takes = "functional or Sequential network, built, of one input, (N, H, W, C)"
    for words, said in {
        ("predict", path, photos / "a" / "0.png"): f"MODEL must be a {takes}",
        ("evaluate", path, *data): f"RUN must be a {takes}",
        ("train", *data, "--from", path, "--dry-run"): f"--from must be a {takes}",
    }.items():
        refused(words, said, path, capsys)
    if not has_ratios:
        words = ("ratios", path, *data, "--out", tmp_path / "r")
        refused(words, "MODEL_OR_RUN must be a network", path, capsys)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.keras"]


def refused(words, said, path, capsys):
    assert cli.main([*map(str, words), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"keras-en: error: {said}") and f"Received: {path}" in line
