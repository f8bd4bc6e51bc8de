"""`keras-en ratios`: models and runs, sources, comparisons, faults."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization, cli
from keras_en.analysis import RatioHistory, collect_ratios
from keras_en.cli import explanation
from keras_en.models import CifarResNet
from keras_en.training.data import Transform, load

pytestmark = pytest.mark.tensorflow


def network(seed=0):
    """Small, with ratios that depend on the image."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    norm = ExemplarNormalization(name="norm")
    x = norm(keras.layers.Conv2D(4, 3)(inputs))
    x = keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(x))
    norm.ratio_output_kernel.assign(
        np.random.default_rng(seed).normal(size=norm.ratio_output_kernel.shape)
    )
    return keras.Model(inputs, x, name="net")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The page has its own tests: here it is written without figures."""
    calls = []

    def write(folder, *arguments):
        calls.append(arguments)
        (folder / "report.html").write_text("new")
        return folder / "report.html"

    monkeypatch.setattr(explanation, "write_report", write)
    monkeypatch.setattr(explanation, "STRENGTHS", (0.0, 0.5))
    return calls


@pytest.fixture
def run(tmp_path):
    """The folder of a training."""
    folder = tmp_path / "run"
    folder.mkdir()
    network().save(folder / "model.keras")
    (folder / "recipe.yaml").write_text(
        "network: {name: CifarResNet, arguments: {depth: 8}}\n"
        "data: {source: digits, evaluate: [{normalize: {mean: 0.3, std: 0.5}}]}\n"
    )
    return folder


def test_a_run_has_the_data_of_its_recipe(run, tmp_path, quick, capsys):
    test = load("digits").splits["test"]
    x, labels = map(np.concatenate, zip(*test.batches(50), strict=True))
    model = keras.models.load_model(run / "model.keras")
    expected = collect_ratios(model, (x - 0.3) / 0.5, labels)
    RatioHistory({3: expected}).save(run / "ratios.npz")
    out = tmp_path / "report"
    assert cli.main(["ratios", str(run), "--out", str(out)]) == 0
    assert f"Written: {out / 'report.html'}" in capsys.readouterr().out
    title, actual, others, history, by_strength, images, facts, _, _ = quick[0]
    assert title == "run on digits" and others == {}
    np.testing.assert_allclose(actual["norm"], expected["norm"], atol=1e-5)
    np.testing.assert_array_equal(actual.labels, labels)
    assert history.epochs == [3] and actual.class_name(7) == "7"
    np.testing.assert_allclose(by_strength[0.0].mean(), actual.mean(), atol=1e-5)
    assert (by_strength[0.5].mean() != actual.mean()).any()
    np.testing.assert_allclose(images[5] / 255, x[5], atol=0.003)
    assert ("data", "digits, test") in facts


def test_a_model_needs_data_and_takes_its_scale(run, tmp_path, quick, capsys):
    model = str(run / "model.keras")
    assert cli.main(["ratios", model, "--out", str(tmp_path / "a")]) == 2
    assert "--data must name the images" in capsys.readouterr().err
    arguments = ["ratios", model, "--data", "digits", "--out", str(tmp_path / "a")]
    scale = ["--mean", "0.3", "--std", "0.5"]
    for extra in (["--limit", "20", *scale], ["--limit", "20", "--overwrite"]):
        assert cli.main([*arguments, *extra]) == 0
    assert (
        cli.main(["ratios", str(run), "--limit", "20", "--out", str(tmp_path / "b")])
        == 0
    )
    scaled, plain, of_recipe = (call[1] for call in quick)
    np.testing.assert_allclose(scaled["norm"], of_recipe["norm"], atol=1e-6)
    assert np.abs(plain["norm"] - scaled["norm"]).max() > 1e-3
    assert plain.count == 20


def test_two_data_sets_and_two_runs(run, tmp_path, quick):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), "uint8")
    labels = np.arange(20) % 2
    arrays = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    np.savez(tmp_path / "other.npz", **arrays)
    other = f"npz:{tmp_path / 'other.npz'}"
    base = ["ratios", str(run), "--data", "digits", "--limit", "20", "--overwrite"]
    base += ["--out", str(tmp_path / "out"), "--mean", "0", "--std", "1"]
    assert cli.main([*base, "--against", other]) == 0
    ((title, compared),) = quick[0][2].items()
    assert title == "run on other.npz" and compared.count == 20
    transform = Transform.of([{"resize": [8, 8]}])
    x = transform(pixels)[0]
    model = keras.models.load_model(run / "model.keras")
    np.testing.assert_allclose(
        compared["norm"], collect_ratios(model, x)["norm"], atol=1e-5
    )
    network(1).save(tmp_path / "second.keras")
    assert cli.main([*base, "--against", str(tmp_path / "second.keras")]) == 0
    ((title, compared),) = quick[1][2].items()
    assert title == "second on digits"
    assert np.abs(compared["norm"] - quick[1][1]["norm"]).max() > 1e-3


def test_faults_are_one_line(run, tmp_path, capsys):
    CifarResNet(8, input_shape=(8, 8, 1), norm="bn").save(tmp_path / "bn.keras")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    out, data = ["--out", str(tmp_path / "out")], ["--data", "digits"]
    cases = {
        ("bn.keras", *data, *out): "replace_normalization puts them into a network",
        ("none.keras", *data, *out): "none.keras",
        ("empty", *data, *out): "a folder with model.keras",
        ("run", "--data", "npz:no.npz", *out): "no.npz must be an npz file",
        ("run", "--out", str(tmp_path / "mine")): "--out must be a new or empty folder",
        ("run", "--against", "none.keras", *out): "none.keras",
        ("run", "--mean", "1,2", *out): "--mean must be a number, or one for each",
    }
    for (name, *rest), message in cases.items():
        assert cli.main(["ratios", str(tmp_path / name), *rest]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_images_of_every_class_are_shown():
    """Sorted by class, as those of a folder are."""
    x = np.linspace(0, 1, 6, dtype="float32").reshape(6, 1, 1, 1) * np.ones(
        (1, 300, 2, 1)
    )
    labels, pictures = np.array([0, 0, 0, 0, 1, 1]), {}
    halves = [(x[:3], labels[:3]), (x[3:], labels[3:])]
    batches = list(explanation.shown(halves, lambda v: 1 - v, pictures, 1))
    assert [len(labels) for _, labels in batches] == [3, 3]
    assert list(pictures) == [0, 4] and pictures[4].shape == (100, 1, 1)
    assert pictures[0].max() == 255 and pictures[4][0] == round(0.2 * 255)


def test_by_hand():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 8, 8, 1)).astype("float32")
    ((noisy, labels),) = explanation.noisy([(x, None)], 0.5, 0)
    assert labels is None
    assert np.std(noisy - x) == pytest.approx(0.5 * x.std(), rel=0.05)
