"""`keras-en reproduce`: a table from the processes of its runs."""

from pathlib import Path

import pytest

from keras_en import cli
from keras_en.cli import reproduce
from keras_en.training import reproduction
from keras_en.training.recipes.tables import load_table
from tests.training.test_reproduction import finish

TABLE = ["reproduce", "table5", "--seeds", "0,1", "--only", "ResNet8"]


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """The commands that were run; each leaves what a training does."""
    commands = []

    def run(words, log):
        commands.append([str(word) for word in words])
        folder = words[words.index("--output") + 1]

        class Training:
            seed = 0

        Training.folder = folder
        finish(Training, top1=0.5 + len(commands) / 100)

    monkeypatch.setenv("KERAS_EN_DATA", str(tmp_path))
    monkeypatch.setattr(reproduce, "_run", run)
    return commands


def test_a_grid_then_again(processes, tmp_path, capsys):
    """Seed by seed; what is finished is not trained again."""
    words = [*TABLE, "--epochs", "2", "--output", str(tmp_path / "t"), "--train=--jit"]
    assert cli.main(words) == 0
    assert len(processes) == 6
    assert [c[c.index("--seed") + 1] for c in processes] == ["0"] * 3 + ["1"] * 3
    assert all(c[-2:] == ["--resume", "--jit"] for c in processes)
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line]
    assert all(line.startswith("small scale: ") for line in lines)
    assert "10 with ResNet20; changed: 2 epochs" in text, "what the note says is not so"
    row = "| CIFAR-10, ResNet8 | 52.50 ± 2.12, n=2 | 53.50 ± 2.12, n=2 | 54.50 ± 2.12"
    assert row in (tmp_path / "t" / "results.md").read_text(encoding="utf-8")
    assert len((tmp_path / "t" / "results.csv").read_text().splitlines()) == 7
    assert cli.main(words) == 0 and len(processes) == 6
    assert "finished before" in capsys.readouterr().out
    # With other epochs they would be other runs.
    words[words.index("--epochs") + 1] = "3"
    assert cli.main(words) == 2
    assert "which is another" in capsys.readouterr().err


def test_goes_on_with_runs_of_another_version(processes, tmp_path):
    """With fewer keys, and other words about the same training."""
    words = [*TABLE, "--epochs", "2", "--output", str(tmp_path / "t")]
    assert cli.main(words) == 0 and len(processes) == 6
    for path in (tmp_path / "t").rglob("recipe.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        fewer = [line for line in lines if not line.startswith("  switchable:")]
        assert len(fewer) == len(lines) - 1
        text = "\n".join(fewer) + "\n"
        other = text.replace("  time: ", "  time: once ")
        assert other != text
        path.write_text(other, encoding="utf-8")
    assert cli.main(words) == 0 and len(processes) == 6
    path.write_text("base: nothing\n", encoding="utf-8")
    assert cli.main(words) == 2


def test_a_dry_run_lists(processes, tmp_path, capsys):
    assert cli.main([*TABLE, "--dry-run", "--output", str(tmp_path / "t")]) == 0
    assert capsys.readouterr().out.count(": to do") == 6
    assert not processes and not (tmp_path / "t").exists()


def test_a_dry_run_says_what_data_it_needs(processes, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("KERAS_EN_DATA")
    assert cli.main([*TABLE, "--dry-run", "--output", str(tmp_path / "t")]) == 0
    (last,) = capsys.readouterr().out.splitlines()[7:]
    assert "before it can run: " in last and "Received: 'npz:$KERAS_EN_DATA/" in last


def test_seeds_and_rows_of_other_processes(processes, tmp_path, capsys):
    """Two may train into one folder: what one writes holds what the other has done."""
    words = ["reproduce", "table5", "--output", str(tmp_path / "t"), "--only"]
    assert cli.main([*words, "ResNet8, BN", "--seeds", "0"]) == 0
    assert cli.main([*words, "ResNet8, EN", "--seeds", "1,2"]) == 0
    text = (tmp_path / "t" / "results.md").read_text("utf-8")
    assert "51.00, n=1 | 52.50 ± 0.71, n=2" in text
    assert "`keras-en reproduce table5 --scale small`" in text
    assert "Seeds 0, 1, 2: ours, 2 cores" in text
    assert len((tmp_path / "t" / "results.csv").read_text().splitlines()) == 4


def test_runs_of_other_settings_are_in_no_table(processes, tmp_path):
    words = ["reproduce", "table5", "--output", str(tmp_path / "t"), "--only"]
    assert cli.main([*words, "ResNet8, BN", "--seeds", "0", "--epochs", "2"]) == 0
    assert cli.main([*words, "ResNet8, EN", "--seeds", "0"]) == 0
    text = (tmp_path / "t" / "results.md").read_text("utf-8")
    assert "| CIFAR-10, ResNet8 | 52.00, n=1 |" in text and "51.00" not in text


@pytest.mark.parametrize(
    "words, message",
    [
        (["table12"], "'table9'], or a .yaml file. Received: name='table12'"),
        (["table5", "--seeds", "4-0"], "Received: 4-0"),
        (["table5", "--seeds", "-1"], "at most 1000 seeds. Received: -1"),
        (["table5", "--seeds=-1-3"], "Received: -1-3"),
        (["table5", "--seeds", ""], "Received: ''"),
        (["table5", "--seeds", "1,,2"], "Received: 1,,2"),
        (["table5", "--seeds", "0-4294967295"], "Received: 0-4294967295"),
        (["table5", "--train", "--norm bn --seed 7"], "own. Received: --norm"),
        (["table5", "--train", 'a "b'], 'No closing quotation. Received: a "b'),
        (["table5", "--only", "ResNet9"], "Received: ResNet9"),
        (["table5", "--set", "norm.nam=bn"], "the nearest is `norm.name`"),
        (["table5"], "environment variables are set"),
    ],
)
def test_wrong_usage(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KERAS_EN_DATA", raising=False)
    output = tmp_path / "t"
    try:
        code = cli.main(["reproduce", *words, "--output", str(output)])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()


def test_a_grid_of_ones_own_has_one_scale(processes, tmp_path, capsys, monkeypatch):
    """No word of another in what it prints and writes, nor in its folder's name."""
    grid = tmp_path / "rates.yaml"
    runs = "[{row: [a], column: EN, recipe: digits}]"
    grid.write_text(f"title: Rates\nnote: short\ncolumns: [EN]\nruns: {runs}\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "rates.yaml", "--seeds", "0"]) == 0
    (command,) = processes
    folder = Path("runs", "rates")
    assert Path(command[command.index("--output") + 1]).is_relative_to(folder)
    text = (folder / "results.md").read_text(encoding="utf-8")
    assert text.startswith("# Rates\n\n`keras-en reproduce rates.yaml`\n")
    assert "scale" not in text + capsys.readouterr().out


def test_the_data_of_an_evaluation_is_looked_at_first(tmp_path, processes, capsys):
    """Its report lies beside the run, wherever its recipe does."""
    (tmp_path / "own").mkdir()
    other = tmp_path / "own" / "other.yaml"
    other.write_text("base: digits\ndata: {source: 'npz:$NOT_SET/x.npz'}\n")
    run = f"{{row: [a], column: EN, recipe: digits, evaluate: {other}}}"
    table = tmp_path / "grid.yaml"
    table.write_text(f"title: Rates\ncolumns: [EN]\nruns: [{run}]\n")
    words = ["reproduce", str(table), "--seeds", "0", "--output", str(tmp_path / "t")]
    assert cli.main(words) == 2 and not processes
    assert "Received: 'npz:$NOT_SET/x.npz'" in capsys.readouterr().err
    other.write_text("base: digits\n")
    (run,) = reproduction.trainings(load_table(str(table)), tmp_path / "t", [0])
    (report,) = run.evaluations
    assert report.parent == run.folder.parent
