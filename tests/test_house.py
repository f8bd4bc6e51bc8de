"""The house: what is packaged, who imports whom, what works without TensorFlow."""

import ast
import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    "keras_en": ROOT / "keras_en",
    "models": ROOT / "models",
    "export": ROOT / "export",
}

GROUND = {"version", "arguments", "files", "text", "keras_private"}
# Who may import whom, beside the ground, inside keras_en.
ALLOWED = {
    **dict.fromkeys(GROUND, set()),
    "ops": {"ops"},
    "layers": {"layers", "ops"},
    "models": {"models", "layers", "ops"},
    "surgery": {"surgery", "models", "layers", "ops"},
    "analysis": {"analysis", "layers"},
    "export": {"export", "layers"},
    "training": {"training", "models", "analysis", "layers", "ops"},
    "cli": {"cli", "training", "analysis", "surgery", "export", "models", "layers"},
}


def modules():
    for name, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            parts = inner if name == "keras_en" else (name, *inner)
            yield path, [part for part in parts if part != "__init__"]


def imported(path, parts):
    """Modules of keras_en that a file imports, as their first name below keras_en."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f"keras_en.{parts[0]}"]
        elif isinstance(node, ast.ImportFrom) and node.module == "keras_en":
            names = [f"keras_en.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        for name in names:
            assert name.split(".")[0] not in ("models", "export"), path
            if name.startswith("keras_en."):
                yield name.split(".")[1]


def test_arrows_point_one_way():
    seen = set()
    for path, parts in modules():
        if not parts:
            continue
        seen.add(parts[0])
        allowed = ALLOWED[parts[0]] | (GROUND if parts[0] not in GROUND else set())
        rooms = set(imported(path, parts))
        assert rooms <= allowed, (path, rooms - allowed)
    assert seen == set(ALLOWED), "every room has its rule"


def test_nothing_imports_tensorflow_by_itself():
    for path, _ in modules():
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [n for n in names if n.split(".")[0] in ("tensorflow", "jax")], (
                path
            )


def test_every_folder_is_packaged():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    packaged = set(config["options"]["packages"].split())
    found = set()
    for path, parts in modules():
        if path.name == "__init__.py":
            found.add(".".join(["keras_en", *parts]))
    assert packaged == found
    mapped = dict(
        line.replace(" ", "").split("=")
        for line in config["options"]["package_dir"].strip().splitlines()
    )
    assert mapped == {"keras_en.models": "models", "keras_en.export": "export"}
    for path, _ in modules():
        assert (path.parent / "__init__.py").exists(), path


def test_files_stay_readable():
    long = {
        str(path.relative_to(ROOT)): lines
        for path, _ in modules()
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_every_module_says_what_it_is():
    for path, parts in modules():
        if path.name != "__init__.py" and parts != ["version"]:
            assert ast.get_docstring(ast.parse(path.read_text())), path


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


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_without_tensorflow(tmp_path, backend):
    if backend == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_WITHOUT_TENSORFLOW, str(tmp_path / "m.keras")],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"trained on {backend}" in done.stdout
