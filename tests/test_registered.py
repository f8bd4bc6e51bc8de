"""`import keras_en` is enough to load a file that holds classes of ours."""

import ast
import subprocess
import sys

from tests.sources import ROOT, installed

DECORATOR = "register_keras_serializable"


def registered():
    """Names of all classes that Keras is told of."""
    for source in installed():
        for node in ast.walk(ast.parse(source.path.read_text(encoding="utf-8"))):
            marks = map(ast.unparse, getattr(node, "decorator_list", []))
            if isinstance(node, ast.ClassDef) and any(DECORATOR in m for m in marks):
                yield node.name


def test_of_every_class():
    names = sorted(registered())
    assert {"Crossentropy", "ExemplarNormalization", "ResizeLike"} <= set(names)
    code = f"""
import keras
import keras_en

get = keras.saving.get_registered_object
print([name for name in {names} if get(f"keras_en>{{name}}") is None])
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert process.stdout.strip() == "[]", process.stdout + process.stderr[-2000:]
