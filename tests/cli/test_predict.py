"""`keras-en predict`: classes that are computed by hand, of every form of a network."""

import json

import keras
import numpy as np
import pytest

from keras_en import cli, export

pytestmark = pytest.mark.tensorflow
Image = pytest.importorskip("PIL.Image")
NAMES = ["red", "green", "blue"]


def means(size=(4, 6)):
    """Softmax of ten times the mean of each colour."""
    x = inputs = keras.Input((*size, 3))
    x = keras.layers.GlobalAveragePooling2D()(x * 10.0)
    return keras.Model(inputs, keras.layers.Softmax()(x), name="means")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    means().save(folder / "m.keras")
    for name, color in (("r", (255, 0, 0)), ("b", (51, 0, 153))):
        # Of another size: it is resized.
        Image.new("RGB", (8, 5), color).save(folder / f"{name}.png")
    return folder


def predicted(capsys, *words):
    assert cli.main(["predict", *map(str, words)]) == 0
    return capsys.readouterr().out


def softmax(*values):
    x = np.exp(values)
    return x / x.sum()


def test_by_hand(place, capsys):
    words = [place / "m.keras", place / "r.png", place / "b.png", "--top", "2"]
    results = json.loads(predicted(capsys, *words, "--json", "--quiet"))
    assert [result["image"] for result in results] == [str(w) for w in words[1:3]]
    first, second = (result["classes"] for result in results)
    assert [entry["label"] for entry in first] == [0, 1]
    assert [entry["label"] for entry in second] == [2, 0]
    expected = softmax(2.0, 0.0, 6.0)
    assert second[0]["probability"] == pytest.approx(expected[2], abs=1e-5)
    assert second[1]["probability"] == pytest.approx(expected[0], abs=1e-5)


def test_every_form_says_the_same(place, tmp_path, capsys):
    model = means()
    served = export.export_saved_model(
        model, tmp_path / "served", metadata={"class_names": NAMES}
    )
    export.export_onnx(
        model, tmp_path / "m.onnx", layout="nchw", metadata={"class_names": NAMES}
    )
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    named = ["--class-names", tmp_path / "names.txt"]
    texts = [
        predicted(capsys, place / "m.keras", place / "b.png", "--quiet", *named),
        predicted(capsys, tmp_path / "m.onnx", place / "b.png", "--quiet"),
        predicted(capsys, served, place / "b.png", "--quiet"),
        # By its other signature, which takes pixels.
        predicted(capsys, served, place / "b.png", "--quiet", "--std", "1"),
    ]
    assert texts[0].splitlines() == [
        str(place / "b.png"),
        "  97.96%  blue",
        "   1.79%  red",
        "   0.24%  green",
    ]
    assert set(texts) == {texts[0]}


def test_mean_and_names_of_a_run(place, tmp_path, capsys):
    """The folder of a training has the treatment of images and the names."""
    means().save(tmp_path / "model.keras")
    (tmp_path / "run.json").write_text(json.dumps({"class_names": NAMES}))
    (tmp_path / "recipe.yaml").write_text(
        "name: own\nnetwork: {name: ResNet50}\n"
        "data: {source: 'folder:x', image_size: 4,\n"
        "  evaluate: [{resize: [4, 6]}, {normalize: {mean: [0.2, 0, 0.6], std: 2}}]}\n"
    )
    text = predicted(capsys, tmp_path, place / "b.png", "--quiet")
    assert text.splitlines()[1:] == ["  33.33%  " + name for name in NAMES]
    own = predicted(capsys, tmp_path, place / "b.png", "--quiet", "--mean", "0.2,0,0.6")
    assert own == text
    served = tmp_path / "served"
    words = ["export", str(tmp_path / "model.keras"), "--out", str(served)]
    assert cli.main([*words, "--no-verify", "--signature", "serving_bytes"]) == 0
    capsys.readouterr()
    again = predicted(capsys, served / "1", place / "b.png", "--quiet")
    assert sorted(again.splitlines()) == sorted(text.splitlines())
    record = export.inspect(served / "1").record["options"]
    assert (record["mean"], record["std"]) == ([0.2, 0.0, 0.6], 2.0)


@pytest.fixture(scope="module")
def forms(place, tmp_path_factory):
    """A file, a SavedModel and an ONNX file of the same network."""
    folder = tmp_path_factory.mktemp("forms")
    served = export.export_saved_model(means(), folder / "served")
    onnx = export.export_onnx(means(), folder / "m.onnx")
    return [place / "m.keras", served, onnx]


def test_images_that_are_none_are_named(forms, place, tmp_path, capsys):
    """Of many files the one that cannot be read, whoever decodes it."""
    whole = (place / "r.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    for model in forms:
        for name in ("cut.png", "text.jpg", "empty.png"):
            words = [model, place / "b.png", tmp_path / name, place / "r.png"]
            assert cli.main(["predict", *map(str, words), "--quiet"]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"Received: {tmp_path / name}, " in line


def test_kinds_of_images_are_those_of_the_help(forms, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "JPEG, PNG, BMP or WebP of 8 bits a channel, grey or RGB; where a" in said
    assert "(serving_bytes), 16 bits, CMYK and GIF, of which the first" in said
    image = Image.new("RGB", (6, 4), (51, 0, 153))
    own = [tmp_path / name for name in ("a.bmp", "a.webp")]
    others = [tmp_path / name for name in ("a.gif", "cmyk.jpg", "deep.png")]
    for path in (*own, others[0]):
        image.save(path)
    image.convert("CMYK").save(others[1])
    Image.fromarray(np.full((4, 6), 40000, "uint16")).save(others[2])
    for model in forms:
        predicted(capsys, model, *own)
    predicted(capsys, forms[1], *others)
    reasons = ["GIF, not one of", "CMYK; grey", "16-bit; 8 bits"]
    for path, reason in zip(others, reasons, strict=True):
        for model in (forms[0], forms[2]):
            assert cli.main(["predict", str(model), str(path), "--quiet"]) == 2
            assert f"Received: {path}, {reason}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--mean", "1,2"), ("--std", "1,2,3,4")])
def test_a_number_for_each_channel(forms, place, capsys, words):
    for model in forms:
        assert cli.main(["predict", str(model), str(place / "r.png"), *words]) == 2
        said = capsys.readouterr().err
        assert said.endswith(
            f"error: {words[0]} must be a number, or one for each channel, 3. "
            f"Received: {words[1]}\n"
        )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["m.keras", "absent.png"], "IMAGE must be a file that exists"),
        (["m.keras", "m.keras"], "IMAGE must be a whole image"),
        (["dense.keras", "r.png"], "of one input, (N, H, W, C), to one output, (N, cl"),
        (["absent.onnx", "r.png"], "Received: "),
        (["m.keras", "r.png", "--class-names", "r.png"], "--class-names must"),
    ],
)
def test_wrong_words_are_one_line(place, monkeypatch, capsys, words, part):
    monkeypatch.chdir(place)
    if not (place / "dense.keras").exists():
        layers = [keras.Input((2,)), keras.layers.Dense(1)]
        keras.Sequential(layers).save(place / "dense.keras")
    assert cli.main(["predict", *words, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and part in err, err
