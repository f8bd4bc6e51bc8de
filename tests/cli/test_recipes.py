"""`keras-en recipes`."""

import json

import pytest

from keras_en.cli.main import main
from keras_en.training.recipes import recipe as recipes


def test_lists_every_recipe_with_what_it_is(capsys):
    assert main(["recipes"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == recipes.names()
    assert {len(row) for row in cells} == {head.count("|") - 1}
    [row] = [row for row in cells if row[0] == "cifar10_resnet20"]
    assert row[1:] == [
        *("5", "CifarResNet(depth=20)", "tfds:cifar10", "en", "92.41 % top-1"),
        *("5 minutes of steps on one H100, bfloat16", "one GPU (Sec. 4.3)"),
    ]


def test_prints_a_recipe_that_is_a_recipe(capsys, tmp_path):
    changes = ["norm.name=bn", "schedule.duration=130"]
    options = [word for change in changes for word in ("--set", change)]
    assert main(["recipes", "cifar10_resnet20", *options]) == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert recipes.load(path) == recipes.load("cifar10_resnet20", changes)


def test_for_programs(capsys):
    assert main(["recipes", "--json"]) == 0
    assert [row["Recipe"] for row in json.loads(capsys.readouterr().out)] == (
        recipes.names()
    )
    assert main(["recipes", "digits", "--set", "norm.name=bn", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["norm"]["name"] == "bn" and values["data"]["source"] == "digits"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["cifar10_resnet21"], "the nearest is cifar10_resnet"),
        (["absent.yaml"], "Received: absent.yaml"),
        (["cifar10_resnet20", "--set", "norm.nam=bn"], "norm.name"),
        (["--set", "norm.name=bn"], "without NAME"),
    ],
)
def test_wrong_words_are_one_line(words, part, capsys):
    assert main(["recipes", *words]) == 2
    output, error = capsys.readouterr()
    assert output == "" and error.count("\n") == 1 and part in error
