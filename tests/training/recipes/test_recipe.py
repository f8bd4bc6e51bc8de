"""Recipes as files: what is in them, how keys change, and what is wrong."""

import os

import pytest

from keras_en.training.data import Transform
from keras_en.training.recipes import recipe as recipes
from keras_en.training.recipes.recipe import load, names


@pytest.fixture(scope="module", params=names())
def name(request):
    return request.param


def test_what_stands_in_the_paper():
    """Sec. 4.3: 128 images, 165 epochs, 0.1, decayed at 80 and 120, warm-up in one."""
    recipe = load("cifar10_resnet20")
    assert (recipe.network.name, recipe.network.arguments) == (
        "CifarResNet",
        {"depth": 20},
    )
    assert (recipe.norm.name, recipe.data.batch_size) == ("en", 128)
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("sgd", 0.1)
    schedule = recipe.schedule
    assert (schedule.duration, schedule.milestones) == (165, (80, 120))
    assert (schedule.unit, schedule.warmup, schedule.factor) == ("epochs", 1, 0.1)
    # 50,000 images are 391 batches.
    assert schedule.steps(391) == 165 * 391
    assert schedule.epochs(391) == 165


def test_every_recipe_says_what_it_is(name):
    recipe = load(name)
    assert recipe.name == name
    assert recipe.about.title and recipe.about.hardware and recipe.about.time
    assert bool(recipe.about.tables) == bool(recipe.about.paper)
    lines = (recipes.FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    header = [line for line in lines if line.startswith("#")]
    command = {"images": "keras-en train --data"}.get(name, f"keras-en train {name}")
    assert any(command in line for line in header)


def test_a_recipe_is_written_and_read_again(name, tmp_path):
    recipe = load(name, ["optimizer.weight_decay=1e-5", "optimizer.ema=0.999"])
    path = tmp_path / "other.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load(path) == recipe


def test_data_takes_the_steps(name):
    part = load(name).data
    void = 255 if any("random_scale_crop" in str(s) for s in part.train) else None
    shape = (100, 150, 1 if name == "digits" else 3)
    sizes = {
        Transform.of(steps, part.image_size, void)
        .sized(part.image_size)
        .output_shape(shape)
        for steps in (part.train, part.evaluate)
    }
    assert void or len(sizes) == 1


def test_keys_change(tmp_path):
    overrides = [
        "norm.name=sn",
        "norm.exemplar.expansion=10",
        "norm.switchable={initial_ratios: {batch: 0.9}}",
        "network.arguments={depth: 8, zero_init_last_gamma: true}",
        "data.train=[flip]",
        "schedule.milestones=[8e1, 100.5]",
        "data.labels=npz:a:b:key",
    ]
    recipe = load("cifar10_resnet20", overrides)
    assert (recipe.norm.name, recipe.norm.epsilon) == ("sn", 1e-5)
    assert recipe.norm.exemplar == {"expansion": 10}
    assert recipe.norm.switchable == {"initial_ratios": {"batch": 0.9}}
    assert recipe.network.arguments == {"depth": 8, "zero_init_last_gamma": True}
    assert recipe.data.train == ("flip",)
    assert recipe.schedule.milestones == (80, 100.5)
    assert recipe.data.labels == "npz:a:b:key"


def test_a_file_of_ones_own_has_a_base(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("base: cifar10_resnet20\ndata: {source: 'folder:x'}\n")
    second.write_text("base: first.yaml\nnetwork: {arguments: {depth: 8}}\n")
    recipe = load(second)
    assert recipe.name == "second"
    assert recipe.data.source == "folder:x"
    assert recipe.network.arguments == {"depth": 8}
    assert recipe.schedule == load("cifar10_resnet20").schedule
    # What one file inherits is no other's.
    assert load("cifar10_resnet20").network.arguments == {"depth": 20}


def test_another_number_of_epochs():
    """33 of 165: a fifth of everything."""
    schedule = load("cifar10_resnet20").lasting(33).schedule
    assert (schedule.duration, schedule.milestones) == (33, (16, 24))
    assert schedule.warmup == pytest.approx(0.2)
    schedule = load("webvision_resnet50").lasting(75).schedule
    assert (schedule.unit, schedule.milestones[0]) == ("epochs", 30)


def test_paths_hold_environment_variables(monkeypatch):
    part = load("small_cifar10n").data
    monkeypatch.setenv("KERAS_EN_DATA", f"{os.sep}data")
    assert part.where() == {
        "source": "npz:/data/cifar10_jpeg_packed.npz",
        "labels": "npz:/data/cifar10n_labels.npz:worse_label",
        "image_size": None,
    }
    monkeypatch.delenv("KERAS_EN_DATA")
    with pytest.raises(ValueError, match="`data.source` must be a path whose envir"):
        part.where()


# An override, and what its error says.
WRONG = {
    "norm.nme=bn": "no key `norm.nme`; the nearest is `norm.name`",
    "momentum=0.5": "the nearest is `optimizer.momentum`",
    "norm.name=bm": "`norm.name` must be one of en, .* Received: 'bm'",
    "norm=bn": "`norm` must be a mapping with keys out of name, .* Received: 'bn'",
    "norm.name.x=bn": "no key `norm.name.x`; the nearest is `norm.name`",
    "norm.exemplar.reductoin=4": "the nearest is `norm.exemplar.reduction`",
    "norm.exemplar.expansion=0": "`expansion` must be an integer of at least 1",
    "norm.exemplar.momentum=0.9": "no key `norm.exemplar.momentum`",
    "norm.switchable.expansion=10": "no key `norm.switchable.expansion`",
    "norm.switchable.initial_ratios={batch: 2}": "key `norm.switchable`: .* [0, 1]",
    "network.name=ResNet51": "`network.name` must be one of .* Received: 'ResNet51'",
    "network.arguments.depht=8": "the nearest is `network.arguments.depth`",
    "network.arguments.classes=8": "no key `network.arguments.classes`",
    "network.arguments={}": "`network.arguments.depth` is missing",
    "data.source=cifar10": "`data.source` must be one of digits, tfds:NAME",
    "data.labels=npz:x": "`data.labels` must be npz:PATH:KEY, or null",
    "data.batch_size=0": "an integer of at least 1 and at most 1000000000. Received: 0",
    "data.batch_size=12.5": "must be an integer of at least 1 .* Received: 12.5",
    "data.batch_size=true": "must be an integer of at least 1 .* Received: True",
    "data.train=[{flip: 1, crop: 2}]": "must be a list of steps, each a name",
    "optimizer.learning_rate=fast": "must be a number above 0 .* Received: 'fast'",
    "optimizer.learning_rate=.nan": "must be a number above 0 .* Received: nan",
    "optimizer.weight_decay=-1": r"at least 0 and at most 1e\+09. Received: -1",
    "optimizer.exclude=[bias]": "must be a list of kinds out of norms, biases",
    "optimizer.name=lamb": "must be one of sgd, adam. Received: 'lamb'",
    "schedule.milestones=[120, 80]": "must be rising numbers below the duration, 165",
    "schedule.duration=100": "must be rising numbers below the duration, 100",
    "schedule.name=poly": "`schedule.milestones` must be a list of numbers with",
    "schedule.warmup=165": "`schedule.warmup` must be below the duration, 165",
    "statistics.momentum=fast": 'must be a number from 0 to 1, or "auto", or null',
    "seeds=0": "`seeds` must be a list of seeds. Received: 0",
    "norm.name": "An override must be key=value, as norm.name=bn",
    "=bn": "An override must be key=value",
    "norm.name={bn": "`norm.name` must be YAML: expected",
    "about.title=!!python/object:os.system x": "must be YAML: could not determine",
    f"data.image_size={10**400}": "at most 16384, or null. Received: 1000",
    "optimizer.learning_rate=1e308": r"at most 1e\+09. Received: '1e308'",
    "schedule.duration=1e10": r"at least 1e-06 and at most 1e\+09. Received: '1e10'",
    "schedule.duration=.inf": r"at most 1e\+09. Received: inf",
    "seeds=[4294967296]": "must be a list of seeds. Received: ",
    "loss.label_smoothing=1": "must be a number of at least 0 and at most 0.99",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_keys_and_values(override):
    with pytest.raises(ValueError, match=WRONG[override]) as error:
        load("cifar10_resnet20", [override])
    assert "\n" not in str(error.value)
    assert "Received: " in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    "change",
    [
        *("exclude=[norms]", "ratio_weight_decay=0"),
        *("ratio_lr_multiplier=0.1", "ratio_clipnorm=1"),
    ],
)
def test_keras_own_decay_has_none_of_our_options(change):
    name = change.partition("=")[0]
    overrides = ["optimizer.decay=decoupled", f"optimizer.{change}"]
    with pytest.raises(ValueError, match=f"`optimizer.{name}` must be absent with"):
        load("cifar10_resnet20", overrides)


def test_options_that_contradict_each_other():
    overrides = ["optimizer.name=adam", "optimizer.nesterov=true"]
    with pytest.raises(ValueError, match="`optimizer.nesterov` must be false without"):
        load("cifar10_resnet20", overrides)


DATA = "data: {source: digits}"
WRONG_FILES = {
    "": "must be a mapping from keys. Received: NoneType",
    "- 1": "must be a mapping from keys. Received: list",
    DATA: "key `network` is missing",
    "network: {name: ResNet50}": "key `data` is missing",
    f"network: {{arguments: {{}}}}\n{DATA}": "key `network.name` is missing",
    f"network: ResNet50\n{DATA}": "`network` must be a mapping with keys out of name",
    f"{DATA}\n{DATA}": "the key 'data' is no text, or is there twice",
    f"network: {{name: ResNet50}}\n{DATA}\n1: 2": "key 1 is no text",
    "a: &a [*a]\nb": "must be YAML",
    "a: *b": "must be YAML: found undefined alias",
    "a: [": "must be YAML: expected the node content",
    "\t": "must be YAML: found character",
    "base: nobody": "must be a name or a .yaml file; there are ade20k_deeplab",
    "base: [digits]": "`base` must be a recipe's name or file",
    "base: wrong.yaml": "`base` must be another recipe, not itself",
    "base: digits\nnetwerk: {}": "no key `netwerk`; the nearest is `network`",
    "base: digits\nnetwork: null": "`network` must be a mapping with keys",
    "[" * 500: "must be YAML",
    "seeds: [!!int '']": "must be YAML: ",
    "seeds: !!bool foo": "must be YAML: ",
    "seeds: !!timestamp foo": "must be YAML: ",
    "seeds: !!set [a]": "must be YAML: ",
    "\n".join(
        ["l0: &l0 [0]"]
        + [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10)]
    ): "must be YAML: aliases make it more than 100,000 values",
    "a: &a {b: *a}": "must be YAML: aliases make it more than 100,000 values",
}


@pytest.mark.parametrize("text", WRONG_FILES, ids=range(len(WRONG_FILES)))
def test_wrong_files(text, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=WRONG_FILES[text]) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_text(tmp_path):
    with pytest.raises(ValueError, match="the nearest is cifar10_resnet20. Received"):
        load("cifar10_resnet2")
    with pytest.raises(ValueError, match="can be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ValueError, match="can be read: Is a directory"):
        load(tmp_path / "folder.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is no UTF-8 text"):
        load(tmp_path / "bytes.yaml")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="A recipe needs yaml: pip install"):
        load("digits")
