"""What answers without Keras: help, version, wrong usage. Nothing here looks at a
clock: what is not imported takes no time."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from keras_en.cli import choices, options, parsers
from keras_en.export.onnx import convert, source
from keras_en.export.parity import verify
from keras_en.export.pixels import PIXELS
from keras_en.export.saved_model import write
from keras_en.models import norms, summary
from keras_en.training import strategies
from keras_en.training.data import augmentation, sources
from keras_en.training.recipes import rules, tables
from keras_en.version import __version__
from tests.sources import ROOT


def run_python(code):
    """In an environment in which nobody has asked TensorFlow to be silent."""
    level = "TF_CPP_MIN_LOG_LEVEL"
    environment = {name: v for name, v in os.environ.items() if name != level}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


# What a user types, the exit code, and a part of the answer.
ANSWERS = """
import contextlib, io, sys
sys.argv = ["keras-en"]
from keras_en import cli
for words, code, part in [
    ([], 0, "keras-en quickstart"),
    (["--help"], 0, "examples of a command"),
    (["--version"], 0, "keras-en "),
    *(([name, "--help"], 0, "examples:") for name in NAMES),
    (["fly"], 2, "invalid choice: 'fly'"),
    (["train", "--fly"], 2, "unrecognized arguments: --fly"),
    (["export"], 2, "required: MODEL, --out"),
    (["quickstart", "--norm", "xn"], 2, "invalid choice: 'xn'"),
    (["reproduce", "--seeds", "2-1", "table5"], 2, "must be FIRST-LAST"),
    (["ratios", "m.keras", "--out", "r", "--data", "x"], 2, "must be digits, tfds:"),
]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            result = cli.main(words)
        except SystemExit as stopped:
            result = stopped.code
    assert result == code and part in text.getvalue(), (words, result, text.getvalue())
heavy = {"keras", "tensorflow", "numpy", "jax", "torch"} & set(sys.modules)
assert not heavy, heavy
"""


def test_answers_without_keras():
    names = [title(command) for command in parsers.COMMANDS]
    done = run_python(ANSWERS.replace("NAMES", repr(names)))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["keras_en", "keras_en.cli"])
def test_as_a_module(module):
    command = [sys.executable, "-X", "importtime", "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"keras-en {__version__}\n")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "keras_en.cli.main" in imported
    assert not {"keras", "tensorflow"} & imported


REGISTERED = """
import sys
sys.argv = ["keras-en", "recipes"]
import keras_en
assert "keras" not in sys.modules
from keras_en.cli import library
library.imported("keras_en.cli.recipes", verbose=False)
import keras
keras.ops.ones(1) + 1
of_command = set(keras.saving.get_custom_objects())
from keras_en import ExemplarNormalization, replace_normalization
assert keras_en.recalibrate.__name__ == "recalibrate"
assert not hasattr(keras_en, "fly")
sys.argv = ["script.py"]
del sys.modules["keras_en"]
import keras_en
assert set(keras.saving.get_custom_objects()) == of_command
assert "keras_en>ExemplarNormalization" in of_command
assert keras_en.ExemplarNormalization is ExemplarNormalization
assert all(vars(keras_en)[name] for name in keras_en.__all__)
"""


def test_a_command_registers_what_the_package_does():
    """What is said at the import stays unsaid, on standard error, too."""
    done = run_python(REGISTERED)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


LIBRARY = """
import os, sys, types
sys.argv = ["keras-en", "recipes"]
from keras_en.cli import library
class Broken:
    def find_spec(self, name, *_):
        if name == "keras":
            os.write(2, b"a note of C++\\n")
            raise RuntimeError("no Keras here")
sys.meta_path.insert(0, Broken())
library.imported("keras_en.cli.recipes", verbose=False)
"""


def test_what_was_hidden_is_shown_with_an_error():
    done = run_python(LIBRARY)
    assert done.returncode == 1
    assert done.stderr.startswith("a note of C++\n")
    assert done.stderr.endswith("RuntimeError: no Keras here\n")


WITHOUT_KERAS = """
import sys
sys.argv, sys.modules["keras"] = ["keras-en"], None
from keras_en import cli
sys.exit(cli.main(["recipes"]))
"""


def test_without_keras_there_is_one_line():
    done = run_python(WITHOUT_KERAS)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("keras-en: error: The library cannot be imported")


def title(command):
    return command.__name__.rpartition(".")[2]


def actions(parser):
    """Whatever a parser takes, as its help shows it."""
    result = []

    class Noting(argparse.HelpFormatter):
        def add_argument(self, action):
            result.append(action)
            super().add_argument(action)

    parser.formatter_class = Noting
    parser.format_help()
    return result


def every_parser():
    """By the name of the command; of `keras-en` itself by none."""
    top = parsers.parser()
    [commands] = [a.choices for a in actions(top) if isinstance(a.choices, dict)]
    return {"": top, **commands}


def test_every_command_has_a_parser():
    names = [title(command) for command in parsers.COMMANDS]
    assert list(every_parser()) == ["", *names]


@pytest.mark.parametrize("name", every_parser())
def test_everything_that_is_typed_has_a_sentence_of_help(name):
    bare = [
        (action.option_strings or [action.dest])[0]
        for action in actions(every_parser()[name])
        if not isinstance(action.choices, dict)
        and len((action.help or "").replace("default: %(default)s", "").split()) < 2
    ]
    assert not bare


@pytest.mark.parametrize("name", every_parser())
def test_no_path_is_empty(name):
    """Python takes it for the working folder."""
    types = [action.type for action in actions(every_parser()[name])]
    assert Path not in types
    for parse in {options.path, options.new_path, options.folder} & {*types}:
        with pytest.raises(argparse.ArgumentTypeError, match="empty. Received: ''"):
            parse("")


@pytest.mark.parametrize(
    "words",
    [
        *("quickstart --output {}", "train --output {}", "ratios m.keras --out {}"),
        *("reproduce table5 --output {}", "export m.keras --out x --card {}"),
    ],
)
def test_a_folder_that_is_a_file(words, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("kept")
    option = words.split()[-2]
    refused(words.format(file), f"{option}: must be a folder. Received: {file}", capsys)
    wanted = f"{option}: must be a path in a folder. Received: {file}/run, but {file}"
    refused(words.format(file / "run"), wanted, capsys)
    assert file.read_text() == "kept" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "words",
    [
        *("export m.keras --out {}", "convert m.keras --out {}.keras"),
        *("evaluate run --report {}.md", "verify m.keras m.onnx --report {}.md"),
    ],
)
def test_what_is_written_into_a_file(words, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    words = words.format(tmp_path / "file" / "x")
    refused(words, "must be a path in a folder. Received: ", capsys)
    assert (tmp_path / "file").read_text() == "kept"


def refused(words, part, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsers.parser().parse_args(words.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and part in line


def examples():
    for command in parsers.COMMANDS:
        lines = command.__doc__.partition("Examples:\n")[2].splitlines()
        assert lines, command
        yield from (line.strip() for line in lines)
    for line in parsers.START.splitlines():
        if line.startswith("  "):
            yield line.strip()


@pytest.mark.parametrize("line", dict.fromkeys(examples()))
def test_examples_are_right_usage(line):
    first, *words = shlex.split(line.partition(" > ")[0])
    assert first == "keras-en"
    assert parsers.parser().parse_args(words).command == words[0]


@pytest.mark.parametrize("name", every_parser())
def test_wrong_usage_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsers.parser().parse_args([*name.split(), "--fly\nagain"])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and line.startswith("keras-en")
    assert "error: " in line and line.endswith("--help)")


def test_choices_are_those_of_the_library():
    assert choices.NORMS == norms.NAMES
    assert tuple(summary.NETWORKS) == choices.NETWORKS
    assert sources.FORMS == choices.FORMS
    for text in ("digits", "npz:a", "npz:", "digits:", "fly:a", "tfds:mnist"):
        assert choices.is_source(text) == sources.is_source(text)
    assert choices.STRATEGIES == strategies.NAMES
    assert choices.SCALES == tables.SCALES
    assert choices.tables() == tables.table_names()
    assert (choices.LARGEST, choices.LAST_SEED) == (rules.LARGEST, rules.LAST_SEED)
    assert choices.LARGEST_SIDE == augmentation.LARGEST_SIDE
    assert choices.VERSION == write.LAST_VERSION
    assert choices.OPSETS == convert.OPSETS and choices.LAYOUTS == convert.LAYOUTS
    assert choices.DIMENSIONS == source.DIMENSIONS
    assert choices.SIGNATURES == write.SIGNATURES
    assert choices.PIXELS == PIXELS and choices.BATCHES == verify.BATCHES


def test_by_hand():
    words = ["quickstart", "--epochs", "3", "--quiet"]
    read = parsers.parser().parse_args(words)
    assert (read.command, read.epochs, read.quiet, read.json) == (
        *("quickstart", 3, True),
        False,
    )
    assert read.interrupted == options.NOTHING


def test_a_shell_completes(tmp_path):
    """As bash asks, with the answer in file 8."""
    pytest.importorskip("argcomplete", reason="argcomplete is not installed")
    line = "keras-en train --stra"
    code = "import sys; sys.argv = ['keras-en']\nfrom keras_en.cli import main\nmain()"
    words = " ".join(shlex.quote(word) for word in (sys.executable, "-c", code))
    done = subprocess.run(
        ["bash", "-c", f"{words} 8> answer"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "_ARGCOMPLETE": "1",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        },
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answer").read_text().split() == ["--strategy"]
