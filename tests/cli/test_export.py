"""`keras-en export`, `verify` and `inspect`."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_en import cli, export
from tests.backends import images, numpy
from tests.export.networks import residual, small

pytestmark = pytest.mark.tensorflow

FAST = ("--batches", "1,3")


@pytest.fixture
def file(tmp_path):
    small().save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def keras_en(*arguments):
    return cli.main([str(word) for word in arguments])


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_by_hand(tmp_path, capsys):
    layers = [keras.Input((2,)), keras.layers.ReLU()]
    keras.Sequential(layers).save(tmp_path / "m.keras")
    out = tmp_path / "m.onnx"
    assert keras_en("export", tmp_path / "m.keras", "--to", "onnx", "--out", out) == 0
    assert capsys.readouterr().out.endswith(f"Written: {out}\n")
    assert export.run_onnx(out, np.float32([[-1, 2]])).tolist() == [[0, 2]]
    assert keras_en("inspect", out) == 0
    assert "  <- inputs: float32 (batch, 2)\n" in capsys.readouterr().out


def test_gates_for_people_programs_and_nobody(tmp_path, capsys):
    layers = [keras.Input((2,)), keras.layers.ReLU()]
    keras.Sequential(layers).save(tmp_path / "m.keras")
    out = tmp_path / "m.onnx"
    words = ["export", tmp_path / "m.keras", "--to", "onnx", "--out", out, *FAST]
    assert keras_en(*words, "--json") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["written"] == str(out) and result["parity"]["passed"]
    # Each gate is said when it has been looked at.
    said = [line[:1] for line in printed.err.splitlines() if line[3:9] == "passed"]
    assert len(said) > 5 and said != sorted(said)

    words = ["verify", tmp_path / "m.keras", out, *FAST]
    assert keras_en(*words, "--quiet") == 0
    text = capsys.readouterr().out
    assert text.startswith("Equal: ") and text.count("\n") == 1
    keras.Sequential([keras.Input((2,)), keras.layers.LeakyReLU()]).save(
        tmp_path / "m.keras"
    )
    assert keras_en(*words, "--quiet") == 1
    text = capsys.readouterr().err
    assert "4  FAILED" in text and "passed" not in text
    assert keras_en(*words, "--json") == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_normalizations_in_the_order_of_the_network(tmp_path, capsys):
    model = residual()
    path = export.export_onnx(model, tmp_path / "m.onnx")
    assert keras_en("inspect", path) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| normaliz"))
    names = [line.split("|")[1].strip() for line in lines[start + 2 :]]
    own = [x.name for x in model.layers if type(x).__name__.endswith("Normalization")]
    assert names == own != sorted(own)


@pytest.mark.slow
def test_a_saved_model_from_a_process(tmp_path):
    """Every gate, in a process of its own."""
    model = residual()
    model.save(tmp_path / "m.keras")
    command = [sys.executable, "-m", "keras_en.cli", "export", tmp_path / "m.keras"]
    command += ["--out", tmp_path / "served", "--report", tmp_path / "r.json", *FAST]
    command += ["--mean", "0.4,0.5,0.6", "--std", "0.25"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Written: {tmp_path / 'served' / '1'}" in done.stdout
    assert "1  passed  C program" in done.stdout
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text)["passed"] and "partial" not in text
    gates = {}
    for check in json.loads(text)["checks"]:
        gates.setdefault(check["gate"], {})[check["name"]] = check["status"]
    loaders = ("C program", "Python loader", "graph-mode loader")
    assert gates[1] == dict.fromkeys(loaders, "passed")
    assert gates[2] == dict.fromkeys(("graph", "variables", "weights"), "passed")
    assert gates[4].pop("one pixel") == "not run"
    assert set(gates[4].values()) == {"passed"}
    assert {"random, batch 3", "offset, batch 3", "ratios", "serving_bytes"} <= set(
        gates[4]
    )
    assert gates[5] == {"alone": "passed", "order": "passed"}
    assert gates[6] == {"graph": "passed", "nodes": "passed"}
    assert gates[7] == {"warm-up requests": "passed"}
    assert entries(tmp_path / "served") == ["1"]
    record = export.inspect(tmp_path / "served" / "1").record
    assert record["options"]["mean"] == [0.4, 0.5, 0.6]
    assert record["options"]["std"] == 0.25


def test_onnx_verify_and_inspect(file, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    out, report = tmp_path / "m.onnx", tmp_path / "r.json"
    code = keras_en(
        *("export", file, "--to", "onnx", "--out", out, "--opset", 18, *FAST),
        *("--layout", "nchw", "--metadata", "licence=MIT", "--metadata", "n=[1, 2]"),
        *("--class-names", tmp_path / "names.txt", "--report", report),
    )
    assert code == 0
    assert "4  passed  random, batch 3: largest difference" in capsys.readouterr().out
    assert json.loads(report.read_text())["passed"]
    assert keras_en("verify", file, out, *FAST) == 0
    capsys.readouterr()
    assert keras_en("inspect", out, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["class_names"] == list("abcdefghij")
    assert (facts["licence"], facts["n"]) == ("MIT", [1, 2])
    assert facts["signatures"]["serving_default"]["inputs"] == {
        "inputs": ["float32", ["batch", 3, 8, 8]]
    }
    assert facts["options"]["opset"] == 18
    assert keras_en("inspect", out) == 0
    assert "  <- inputs: float32 (batch, 3, 8, 8)" in capsys.readouterr().out
    x = images(np.random.default_rng(0), (2, 8, 8, 3))
    expected = numpy(keras.models.load_model(file)(x))
    y = export.run_onnx(out, x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-4)


def test_a_gate_that_fails(tmp_path, capsys):
    """Samples that depend on each other: exit code 1, nothing but the report."""
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.UnitNormalization(axis=0)(x))
    model.save(tmp_path / "m.keras")
    command = ["export", tmp_path / "m.keras", "--to", "onnx", *FAST]
    command += ["--out", tmp_path / "m.onnx", "--report", tmp_path / "r.md"]
    assert keras_en(*command) == 1
    out, err = capsys.readouterr()
    assert "5  FAILED  alone: " in out
    assert "1 checks failed; nothing was written" in err
    assert entries(tmp_path) == ["m.keras", "r.md"]
    assert keras_en(*command, "--no-verify", "--overwrite") == 0
    assert entries(tmp_path) == ["m.keras", "m.onnx", "r.md"]
    assert keras_en("verify", tmp_path / "m.keras", tmp_path / "m.onnx", *FAST) == 1


def test_what_failed_before_is_replaced(file, tmp_path):
    out = tmp_path / "m.onnx"
    out.write_text("kept")
    command = ("export", file, "--to", "onnx", "--out", out, "--no-verify")
    assert keras_en(*command) == 2
    assert out.read_text() == "kept"
    assert keras_en(*command, "--overwrite") == 0
    assert export.inspect(out).kind == "ONNX"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--to onnx --out m.pb", "must end in .onnx. Received"),
        ("--to onnx --out m.onnx --version 2", "--version is for --to saved_model"),
        ("--out served --fp16", "--fp16 is for --to onnx"),
        ("--out served --report no/r.md", "--report must be in a folder that exists"),
        ("--out served --report r.txt", "--report must be a file that ends in .json"),
        ("--out served --report m.keras.md", "--report must be new, or --overwrite"),
        ("--out m.keras", "`directory` must be a folder. Received"),
        ("--out m.onnx", "`directory` must be a folder's name; --to onnx writes a"),
        ("--out served --image-size 9", "`image_size` must be that of the model"),
        ("--out served --mean 1,2", "--mean must be a number, or one for each channel"),
        ("--to onnx --out m.onnx --dynamic batch,height", "must not hold 'height'"),
        ("--to onnx --out m.onnx --class-names no.txt", "--class-names must be a file"),
        ("--to onnx --out m.onnx --class-names m.keras", "must be a text file"),
    ],
)
def test_wrong_usage_is_one_line(file, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.keras.md").touch()
    assert keras_en("export", file, *words.split()) == 2
    err = capsys.readouterr().err.strip()
    assert said in err and err.count("\n") == 0, err
    assert entries(tmp_path) == ["m.keras", "m.keras.md"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--opset 30", "at least 9 and at most 23. Received: 30"),
        ("--layout chw", "invalid choice: 'chw'"),
        ("--signature nothing", "invalid choice: 'nothing'"),
        ("--dynamic depth", "names of batch, height, width between commas"),
        ("--image-size 3x", "must be HEIGHTxWIDTH"),
        ("--image-size " + "9" * 400, "of at most 16384 each"),
        ("--batches 1,0", "from 1 to 1000000000 between commas. Received: 1,0"),
        ("--atol -1", "must be a number from 0 to 1e+09. Received: -1"),
        ("--metadata key", "must be KEY=VALUE"),
        ("--mean a", "must be numbers from -1e+09 to 1e+09 between commas"),
        ("--mean 0,1e300", "must be numbers from -1e+09 to 1e+09 between commas"),
        ("--std 1,0,1", "must be numbers from 1e-09 to 1e+09 between commas"),
        (
            "--std=-1",
            "1e-09 to 1e+09 between commas. Received: -1",
        ),
        ("--version 0", "at most 9223372036854775807. Received: 0"),
    ],
)
def test_wrong_values_say_what_is_allowed(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        keras_en("export", "m.keras", "--out", tmp_path / "x", *words.split())
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_files_that_are_not_there_or_wrong(file, tmp_path, capsys):
    (tmp_path / "bad.keras").write_text("bad")
    (tmp_path / "bad.onnx").write_text("bad")
    for words, said in (
        (("export", tmp_path / "no.keras", "--out", "x"), "a file that exists"),
        (("export", tmp_path / "bad.onnx", "--out", "x"), "ends in .keras"),
        (("export", tmp_path / "bad.keras", "--out", "x"), "that Keras can read"),
        (("verify", file, tmp_path / "no.onnx"), "a SavedModel's version"),
        (("verify", file, tmp_path), "a SavedModel's version"),
        (("verify", file, tmp_path / "bad.onnx"), "is not an ONNX file"),
        (("verify", tmp_path / "no.keras", tmp_path / "m.onnx"), "a file that exists"),
        (("inspect", file), "a SavedModel's version"),
        (("inspect", tmp_path / "bad.onnx"), "is not an ONNX file"),
    ):
        assert keras_en(*words) == 2, words
        err = capsys.readouterr().err.strip()
        assert said in err and err.count("\n") == 0, err


def test_a_model_of_open_size(tmp_path, capsys):
    small((None, None, 3)).save(tmp_path / "m.keras")
    command = ("export", tmp_path / "m.keras", "--to", "onnx", *FAST)
    assert keras_en(*command, "--out", tmp_path / "m.onnx") == 2
    assert "`image_size` or `dynamic` must be given" in capsys.readouterr().err
    out = tmp_path / "a.onnx"
    assert keras_en(*command, "--out", out, "--image-size", "8x9") == 0
    out = tmp_path / "b.onnx"
    sizes = ("--dynamic", "batch,height,width", "--sizes", "5x7,8")
    assert keras_en(*command, "--out", out, *sizes) == 0
    assert "random, batch 3, 5 x 7" in capsys.readouterr().out


def test_names_in_files_control_no_terminal(tmp_path, capsys):
    layers = [keras.Input((2,)), keras.layers.ReLU()]
    path = export.export_saved_model(keras.Sequential(layers), tmp_path / "served")
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    proto = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    signatures = proto.meta_graphs[0].signature_def
    signatures["\x1b[31m\nred"].CopyFrom(signatures["serving_default"])
    (path / "saved_model.pb").write_bytes(proto.SerializeToString())
    assert keras_en("inspect", path) == 0
    assert "\nred:\n" in capsys.readouterr().out

    report = export.ParityReport("m.onnx", "ONNX", "\x1b[31mred", {}, {}, {}, [])
    report.write(tmp_path / "r.md")
    assert "`red`" in (tmp_path / "r.md").read_text()
