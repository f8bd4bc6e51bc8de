"""Tables from the reports of runs."""

import csv
import io
import json

import pytest

from keras_en.training import reproduction
from keras_en.training.recipes.tables import load_table

HISTORY = "epoch,loss,val_accuracy\n1,2.0,0.25\n2,1.0,{}\n"


def finish(training, **metrics):
    """What `keras-en train` leaves of a run."""
    training.folder.mkdir(parents=True)
    hardware = {"cpu_count": 2, "processor": "ours", "devices": ["CPU", "CPU"]}
    facts = {"seed": training.seed, "hardware": hardware, "versions": {"keras": "3.15"}}
    report = json.dumps({**facts, "metrics": metrics})
    (training.folder / "run.json").write_text(report)
    text = HISTORY.format(metrics.get("top1", 0.5))
    (training.folder / "history.csv").write_text(text)


def test_where_runs_come_from(tmp_path):
    """All in the folder, whatever seeds one process was asked for."""
    table = load_table("table5", "small")
    runs = reproduction.trainings(table, tmp_path, [3, 12, 4], only=["ResNet20, EN"])
    for run in runs:
        finish(run, top1=0.5)
    assert reproduction.seeds_in(tmp_path) == [3, 4, 12]
    line = "Seeds 3, 4, 12: ours, 2 cores, CPU; keras 3.15."
    assert reproduction.origin(runs) == [line]
    (runs[0].folder.parent / "seedx").mkdir()
    assert reproduction.seeds_in(tmp_path) == [3, 4, 12]


def test_runs_of_other_precisions_are_said(tmp_path):
    """A run that was finished before a command asked for half precision has none."""
    table = load_table("table5", "small")
    runs = reproduction.trainings(table, tmp_path, [0, 1], only=["ResNet20, EN"])
    for run, policy in zip(runs, ("float32", "mixed_bfloat16"), strict=True):
        finish(run, top1=0.5)
        path = run.folder / "run.json"
        facts = {**json.loads(path.read_text()), "dtype_policy": policy}
        path.write_text(json.dumps(facts))
    assert reproduction.origin(runs) == [
        "Seeds 0: ours, 2 cores, CPU, float32; keras 3.15.",
        "Seeds 1: ours, 2 cores, CPU, mixed_bfloat16; keras 3.15.",
    ]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "hardware",
            {"processor": "a"},
            "a, unknown cores, unknown devices; keras 3.15",
        ),
        (
            "hardware",
            1,
            "unknown processor, unknown cores, unknown devices; keras 3.15",
        ),
        ("versions", [], "ours, 2 cores, CPU; versions unknown."),
        ("processes", [5], "ours, 2 cores, CPU; keras 3.15."),
        ("dtype_policy", 3, "ours, 2 cores, CPU; keras 3.15."),
    ],
)
def test_where_a_run_with_a_damaged_file_comes_from(tmp_path, name, value, line):
    table = load_table("table5", "small")
    (run,) = reproduction.trainings(table, tmp_path, [3], only=["ResNet20, EN"])
    finish(run, top1=0.5)
    path = run.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    (said,) = reproduction.origin([run])
    assert said.startswith(f"Seeds 3: {line}") and said.endswith(".")
    assert run.is_finished


def test_a_damaged_history_is_not_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (run, *_) = reproduction.trainings(load_table("table5", "small"), tmp_path, [0])
    finish(run, top1=0.5)
    head = b"epoch,val_accuracy\n1"
    for data in (b"", b"\xff\xfe", head, head + b",\n", head + b",x\n"):
        (run.folder / "history.csv").write_bytes(data)
        assert not reproduction.plot_curves([run], tmp_path / "curves.png", "none")


def test_a_table_by_hand(tmp_path):
    """0.5 and 0.6: mean 55, standard deviation 7.07."""
    table = load_table("table5", "small")
    runs = reproduction.trainings(table, tmp_path, [0, 1], only=["ResNet20, EN"])
    assert [r.seed for r in runs] == [0, 1] and not runs[0].is_finished
    assert runs[0].recipe.norm.name == "en"
    assert reproduction.as_csv(runs, "small").count("\n") == 1
    for training, top1 in zip(runs, (0.5, 0.6), strict=True):
        finish(training, top1=top1, top5=0.9)
    text = reproduction.markdown(table, runs)
    assert "| CIFAR-10, ResNet20 | 55.00 ± 7.07, n=2 (92.41) |" in text
    assert "Not the paper's: 10,000 images" in text
    rows = list(csv.DictReader(io.StringIO(reproduction.as_csv(runs, "small"))))
    assert [(row["seed"], row["value"]) for row in rows] == [
        ("0", "50.0"),
        ("1", "60.0"),
    ]
    assert {row["paper"] for row in rows} == {"92.41"}


def test_every_table_has_runs_of_its_own(tmp_path):
    """No two share a folder, but for those that are the same training."""
    for number in range(2, 10):
        for scale in ("small", "paper"):
            table = load_table(f"table{number}", scale)
            runs = reproduction.trainings(table, tmp_path, [0])
            folders = {}
            for training in runs:
                folders.setdefault(training.folder, []).append(training.recipe)
            for same in folders.values():
                assert all(recipe == same[0] for recipe in same)


def test_other_reports(tmp_path):
    """Of several sizes, and on the data of another recipe."""
    (run, *_) = reproduction.trainings(load_table("table6", "small"), tmp_path, [3])
    ((report, options),) = run.evaluations.items()
    assert report.name == "seed3-scales.json" and options == ["--scales", "recipe"]
    finish(run, miou=0.25)
    assert run.figures() == {"miou_ss": 25.0}
    report.write_text(json.dumps({"metrics": {"miou": 0.5}}))
    assert run.figures() == {"miou_ss": 25.0, "miou_ms": 50.0}
    (run, *_) = reproduction.trainings(load_table("table4", "small"), tmp_path, [0])
    ((report, options),) = run.evaluations.items()
    assert options == ["--recipe", "small_cifar10"]
    finish(run, top1=0.9, top5=0.9)
    report.write_text(json.dumps({"metrics": {"top1": 0.5, "top5": 0.75}}))
    assert run.figures() == {"top1": 50.0, "top5": 75.0}


def test_curves(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    runs = reproduction.trainings(load_table("table5", "small"), tmp_path, [0, 1])
    path = tmp_path / "curves.png"
    assert not reproduction.plot_curves(runs, path, "none")
    for training in runs[:4]:
        finish(training, top1=0.5)
    assert reproduction.plot_curves(runs, path, "four")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_only_what_is_there(tmp_path):
    with pytest.raises(ValueError, match="CIFAR-10, ResNet20, BN;.*Received: ResNet9"):
        reproduction.trainings(load_table("table5"), tmp_path, only=["ResNet9"])
