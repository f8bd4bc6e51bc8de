"""The house: what is packaged, who imports whom, what works without TensorFlow."""

import ast
import configparser
import graphlib
import os
import subprocess
import sys

import pytest

from tests.sources import PACKAGES, ROOT, imports, installed, own_imports

GROUND = {"version", "arguments", "command", "files", "text"}
GROUND |= {"keras_private", "lambdas", "variables"}
# Who may import whom, beside the ground, inside keras_en.
ALLOWED = {
    **dict.fromkeys(GROUND, set()),
    "variables": {"arguments"},
    "ops": {"ops"},
    "layers": {"layers", "ops"},
    "models": {"models", "layers", "ops"},
    "surgery": {"surgery", "models", "layers", "ops"},
    "analysis": {"analysis", "surgery", "layers"},
    "export": {"export", "layers"},
    "training": {"training", "models", "analysis", "layers", "ops"},
    "__main__": {"cli"},
    "cli": {"cli", "training", "analysis", "surgery", "export", "models", "layers"},
}
# Folders that know nothing of each other.
SEPARATE = {
    "keras_en.export.onnx": {"keras_en.export.saved_model", "keras_en.export.parity"},
    "keras_en.export.saved_model": {"keras_en.export.onnx", "keras_en.export.parity"},
}


def allowed_rooms(room):
    return ALLOWED[room] if room in GROUND else ALLOWED[room] | GROUND


def test_arrows_point_one_way():
    inside_rooms = [source for source in installed() if source.room]
    assert {source.room for source in inside_rooms} == set(ALLOWED), "a rule each"
    wrong = []
    for source in inside_rooms:
        allowed = allowed_rooms(source.room)
        for node, module in own_imports(source):
            # What comes from `keras_en` itself has no room: its `__init__` imports it.
            if module.removeprefix("keras_en.").split(".")[0] not in allowed:
                wrong.append(f"{source.at(node)}: {module}")
    assert not wrong, "\n".join(wrong)


def inside(module, package):
    return f"{module}.".startswith(f"{package}.")


def test_formats_know_neither_each_other_nor_the_proof():
    wrong = [
        f"{source.at(node)}: {module}"
        for package, others in SEPARATE.items()
        for source in installed()
        if inside(source.module, package)
        for node, module in own_imports(source)
        if any(inside(module, other) for other in others)
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_have_no_cycle():
    """Those inside functions too: an import that waits hides a cycle, no more."""
    graph = {
        source.module: {module for _, module in own_imports(source)}
        for source in installed()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_nobody_imports_the_names_of_a_checkout():
    for source in installed():
        for node, module, _ in imports(source):
            assert module.split(".")[0] not in ("models", "export"), source.at(node)


def test_nothing_imports_tensorflow_by_itself():
    for source in installed():
        top = [node for node in source.tree.body if isinstance(node, ast.stmt)]
        for node, module, _ in imports(source, top):
            assert module.split(".")[0] not in ("tensorflow", "jax"), source.at(node)


def test_every_folder_is_packaged():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    packages = {source.module for source in installed() if source.is_package}
    assert set(config["options"]["packages"].split()) == packages
    mapped = dict(
        line.replace(" ", "").split("=")
        for line in config["options"]["package_dir"].strip().splitlines()
    )
    assert mapped == {"keras_en.models": "models", "keras_en.export": "export"}
    for source in installed():
        assert (source.path.parent / "__init__.py").exists(), source.path


@pytest.mark.parametrize("package", PACKAGES)
def test_hints_are_packaged(package):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert (PACKAGES[package] / "py.typed").exists()
    assert "py.typed" in config["options.package_data"][package].split()


def test_files_of_recipes_are_packaged():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    package = "keras_en.training.recipes"
    patterns = config["options.package_data"][package].split(", ")
    folder = ROOT.joinpath(*package.split("."))
    packaged = {path for pattern in patterns for path in folder.glob(pattern)}
    assert packaged == set(folder.rglob("*.yaml")) != set()


def test_every_module_says_what_it_is():
    for source in installed():
        if not source.is_package and source.room != "version":
            assert ast.get_docstring(source.tree), source.path


TRAIN_WITHOUT_TENSORFLOW = """
import sys

sys.modules["tensorflow"] = None  # an import of it fails
import keras
import numpy as np
import keras_en, keras_en.analysis, keras_en.export, keras_en.models, keras_en.training

rng = np.random.default_rng(0)
x, y = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 32)
model = keras_en.models.CifarResNet(8, input_shape=(8, 8, 3), classes=3)
model.compile("adam", "sparse_categorical_crossentropy")
history = model.fit(x, y, epochs=3, verbose=0).history["loss"]
assert history[-1] < history[0], history
model.save(sys.argv[1])
again = keras.models.load_model(sys.argv[1])
assert (again.predict(x, verbose=0) == model.predict(x, verbose=0)).all()
ratios = keras_en.analysis.collect_ratios(model, x)
assert len(ratios) == 9
assert sys.modules["tensorflow"] is None
print("trained on", keras.backend.backend())
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_without_tensorflow(tmp_path, backend):
    if backend == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    process = subprocess.run(
        [sys.executable, "-c", TRAIN_WITHOUT_TENSORFLOW, str(tmp_path / "m.keras")],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert f"trained on {backend}" in process.stdout
