"""`keras-en train`, in real processes where processes matter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_en import cli
from keras_en.analysis import RatioHistory
from keras_en.models import CifarResNet
from keras_en.training import experiment
from keras_en.training.recipes import recipe as recipes
from tests.cli.test_main import keras_en
from tests.training.data.pictures import class_folder, mask_folder

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parents[2]
PICTURES = ("curves.png", "confusion.png")
WRITTEN = sorted([*experiment.FILES, *PICTURES, "best.keras", "tensorboard"])
SMALL = ["--network", "CifarResNet", "--set", "network.arguments.depth=8"]


def main(*words):
    """The exit code of `keras-en train`, in this process."""
    try:
        return cli.main(["train", *map(str, words)])
    except SystemExit as stopped:
        return stopped.code


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_with_other_files(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert main("--output", tmp_path, "--resume") == 2
    assert "which holds thesis.tex" in capsys.readouterr().err
    assert names(tmp_path) == ["thesis.tex"]


@pytest.mark.slow
def test_mirrored_then_resumed(tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["train", "--output", folder, "--strategy", "mirrored", "--norm", "en"]
    code, out, err = keras_en(*command, "--epochs", 1, "--checkpoint-every", 5)
    assert code == 0, err
    assert names(folder) == sorted([*WRITTEN, "ratios.npz"])
    assert "Test accuracy: " in out and str(folder / "model.keras") in out
    noted = RatioHistory.load(folder / "ratios.npz").last
    assert noted.count == experiment.PROBE, "whatever the size of a batch"

    assert main("--output", folder) == 2
    assert "--resume goes on with it. Received: " in capsys.readouterr().err

    # As a machine that lost power in the middle of a save leaves it.
    (folder / "checkpoint.partial").write_bytes(b"torn")
    # Of one device: a checkpoint does not know how many replicas there were. The
    # recipe is that of the folder.
    command = ["train", "--output", folder, "--epochs", 2, "--resume"]
    code, out, err = keras_en(*command)
    assert code == 0, err
    assert "Epoch 2/2" in out and "Epoch 1/2" not in out
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert names(folder) == sorted([*WRITTEN, "ratios.npz"])


@pytest.mark.slow
def test_the_example_of_two_workers(tmp_path):
    folder = tmp_path / "run"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [ROOT / "examples" / "multi_worker.sh", "--epochs", "1", "--output", folder],
        env={**os.environ, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Test accuracy: ") == 1, "the chief prints"
    assert names(folder) == sorted([*WRITTEN, "ratios.npz"])


@pytest.fixture
def images(tmp_path):
    """A person's own folder."""
    class_folder(tmp_path / "images", np.random.default_rng(0), size=(20, 24))
    return tmp_path / "images"


@pytest.mark.slow
def test_a_folder_of_images(images, tmp_path, capsys):
    """From images to a file whose scores `keras-en evaluate` gives again."""
    folder = tmp_path / "run"
    words = ["--data", f"folder:{images}", *SMALL, "--image-size", 16, "--norm", "bn"]
    words += ["--batch-size", 4, "--epochs", 2, "--output", folder]
    assert main(*words) == 0
    printed = capsys.readouterr().out
    accuracy = printed.split("Test accuracy: ")[1].split()[0]
    model = keras.models.load_model(folder / "model.keras")
    assert model.input_shape == (None, 16, 16, 3) and model.output_shape == (None, 2)
    assert model.name == "cifar_resnet8_bn"
    recipe = recipes.load(folder / "recipe.yaml")
    assert recipe.data.source == f"folder:{images}" and recipe.schedule.duration == 2
    best = keras.models.load_model(folder / "best.keras", compile=False)
    assert best.output_shape == (None, 2)
    text = (folder / "report.md").read_text()
    assert text.startswith("# ResNet-50 on a folder of images\n") and "cat" in text
    facts = json.loads((folder / "run.json").read_text())
    assert f"{facts['metrics']['top1']:.2%}" == accuracy and facts["seed"] == 0
    report = tmp_path / "scores.json"
    assert cli.main(["evaluate", str(folder), "--report", str(report)]) == 0
    assert f"accuracy:             {accuracy}" in capsys.readouterr().out
    scores = json.loads(report.read_text())
    assert scores["images"] == 2 and scores["split"] == "validation"
    assert np.sum(scores["confusion_matrix"]) == 2
    assert sorted(scores["classes"]) == ["cat", "dog"]
    assert facts["class_names"] == ["cat", "dog"]
    assert cli.main(["evaluate", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == scores
    # The labels of both are others then.
    (images / "cat").rename(images / "zebra")
    assert main(*words, "--resume") == 2
    assert "in its order: cat as label 0. Received: dog" in capsys.readouterr().err
    assert json.loads((folder / "run.json").read_text()) == facts


def test_evaluation_on_images_of_ones_own(images, tmp_path, capsys):
    """All of a folder that has no part for it; in the range that the network takes."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    # The first class, unless the mean is far beyond 1.
    outputs = keras.layers.Concatenate()(
        [keras.ops.ones_like(x[:, :1]), x[:, :1] * 1e3 - 1e4]
    )
    keras.Model(inputs, outputs).save(tmp_path / "m.keras")
    words = ["evaluate", str(tmp_path / "m.keras"), "--data", f"folder:{images}"]
    assert cli.main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["split"], scores["images"]) == ("test", 10)
    assert scores["metrics"]["top1"] == 0.5
    # As many classes as those of the training, but others.
    (tmp_path / "run.json").write_text('{"class_names": ["cow", "dog"]}')
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "of the training, in its order: cow as label 0. Received: cat" in error


def test_a_dry_run_writes_nothing(images, tmp_path, capsys):
    folder = tmp_path / "run"
    words = ["--data", f"folder:{images}", *SMALL, "--image-size", 16, "--dry-run"]
    assert main(*words, "--batch-size", 3, "--output", folder) == 0
    printed = capsys.readouterr().out
    assert "images (3, 16, 16, 3) float32, labels (3,) int32" in printed
    assert "60 epochs of 3 steps" in printed and "train 8, validation 2" in printed
    assert not folder.exists()


@pytest.mark.slow
def test_segmentation(tmp_path, capsys):
    """A second output for training, none in the file; sizes averaged."""
    data, folder = tmp_path / "data", tmp_path / "run"
    mask_folder(data, np.random.default_rng(0), count=6, size=(16, 24))
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "base: ade20k_deeplab\n"
        "norm: {name: bn}\n"
        f"data: {{source: 'folder:{data}', batch_size: 2, scales: [16, 24],\n"
        "  train: [{random_scale_crop: {short: [16, 20], longest: 48, crop: 16}}],\n"
        "  evaluate: [{resize: 16}]}\n"
        "schedule: {duration: 1, unit: epochs}\n"
    )
    assert main(recipe, "--output", folder) == 0
    assert "Test mIoU: " in capsys.readouterr().out
    pictures = {"curves.png", "samples.png"}
    assert {path.name for path in folder.glob("*.png")} == pictures
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert model.output_shape == (None, None, None, 3)
    words = ["evaluate", str(folder), "--scales", "recipe"]
    assert cli.main(words) == 0
    assert "\nmIoU: " in capsys.readouterr().out


@pytest.mark.slow
def test_from_a_network_of_another_norm_and_other_classes(images, tmp_path):
    """Surgery first; what stands before the classes is that of the file."""
    keras.utils.set_random_seed(0)
    before = CifarResNet(8, input_shape=(16, 16, 3), classes=7, norm="bn")
    before.save(tmp_path / "before.keras")
    folder = tmp_path / "run"
    words = ["--data", f"folder:{images}", "--image-size", 16, "--output", folder]
    words += ["--from", tmp_path / "before.keras", "--batch-size", 4, "--epochs", 1]
    words += ["--set", "optimizer.learning_rate=1e-9", "--set", "schedule.warmup=0"]
    assert main(*words) == 0
    after = keras.models.load_model(folder / "model.keras", compile=False)
    assert after.output_shape == (None, 2)
    kinds = {type(layer).__name__ for layer in after.layers}
    assert "ExemplarNormalization" in kinds and "BatchNormalization" not in kinds
    pairs = (model.get_layer("stem_conv").kernel for model in (before, after))
    np.testing.assert_allclose(*pairs, atol=1e-6)


@pytest.mark.slow
def test_a_run_of_half_precision(images, tmp_path, capsys):
    """It says so, and is not gone on with in another one."""
    words = ["--data", f"folder:{images}", *SMALL, "--image-size", 16, "--epochs", 1]
    words += ["--batch-size", 4, "--output", tmp_path / "run"]
    half = [*words, "--mixed-precision", "bfloat16"]
    assert main(*half) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["dtype_policy"] == "mixed_bfloat16"
    words[words.index("--epochs") + 1] = 2
    assert main(*words, "--resume") == 2
    assert "mixed_bfloat16" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_of_a_file(images, tmp_path, capsys):
    before = CifarResNet(8, input_shape=(16, 16, 3), classes=7, norm="bn")
    before.save(tmp_path / "before.keras")
    words = ["--data", f"folder:{images}", *SMALL, "--image-size", 16, "--epochs", 1]
    words += ["--set", "optimizer.learning_rate=1e-9", "--set", "schedule.warmup=0"]
    words += ["--weights", tmp_path / "before.keras", "--output", tmp_path / "run"]
    assert main(*words, "--batch-size", 4) == 0
    assert "begun anew: predictions\n" in capsys.readouterr().out
    after = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    pairs = (model.get_layer("stem_conv").kernel for model in (before, after))
    np.testing.assert_allclose(*pairs, atol=1e-6)


@pytest.mark.parametrize(
    "words, config, message",
    [
        ("--strategy multiworker", None, "TF_CONFIG must name"),
        ("--strategy multiworker", "{}", "Received: {}"),
        ("--replicas 2", None, "`replicas` must be None but for"),
        ("--strategy two", None, "invalid choice: 'two'"),
        (
            "--checkpoint-every 0",
            None,
            "at most 1000000000. Received: 0",
        ),
        (f"--epochs {10**400}", None, "at most 1000000000. Received: 1000"),
        ("--set schedule.duration=1e308", None, "1e+09. Received: '1e308'"),
        ("cifar10_resnet21", None, "the nearest is cifar10_resnet"),
        ("absent.yaml", None, "No such file or directory. Received: absent.yaml"),
        ("--set norm.nam=bn", None, "the nearest is `norm.name`"),
        ("--set norm.name", None, "must be key=value"),
        ("--set data.batch_size=0", None, "data.batch_size"),
        ("--network ResNet51", None, "network.name"),
        ("--network CifarResNet", None, "network.arguments.depth` is missing"),
        ("--network DeepLabResNet50", None, "network.name"),
        ("--data folder:absent", None, "absent"),
        ("--data images", None, "data.source"),
        ("--data npz:absent.npz", None, "absent.npz"),
        ("--labels npz:absent.npz:y", None, "None where the source is digits"),
        ("small_cifar10 --set data.source=npz:$NOT_SET/x.npz", None, "variables"),
        ("--weights absent.keras", None, "must be a file that exists"),
        ("--from absent.keras", None, "must be a file that exists"),
        ("--set data.train=[shif]", None, "shif"),
        ("--norm gn --set statistics.recalibrate=2", None, "moving statistics"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, words, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    folder = tmp_path / "run"
    assert main("--output", folder, *words.split()) == 2
    err = capsys.readouterr().err
    assert message in err.splitlines()[-1], err
    assert not folder.exists()


def test_another_recipe_is_not_resumed(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    text = recipes.load("digits", ["norm.name=bn"]).to_yaml()
    (folder / "recipe.yaml").write_text(text)
    assert main("digits", "--output", folder, "--resume") == 2
    assert "norm.name: en here, bn there" in capsys.readouterr().err
    assert names(folder) == ["recipe.yaml"]


@pytest.mark.slow
def test_jax(tmp_path):
    """Resumed at an epoch: the history is that of an uninterrupted run."""
    words = ["train", "--norm", "bn", "--limit-train", 128]
    histories = []
    for folder, commands in (("whole", [[]]), ("parts", [["--epochs", 1], []])):
        for more in commands:
            run = [*words, "--epochs", 2, *more, "--output", tmp_path / folder]
            code, _, err = keras_en(*run, "--resume", KERAS_BACKEND="jax")
            assert code == 0, err
        histories.append((tmp_path / folder / "history.csv").read_text())
    rows = [history.splitlines() for history in histories]
    assert len(rows[0]) == len(rows[1]) == 3
    assert names(tmp_path / "whole") == WRITTEN
