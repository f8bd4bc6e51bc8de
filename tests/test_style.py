"""The form of the code: names, sizes, and nobody's private names.

A failure lists the lines.
"""

import ast

from tests.sources import ROOT, imports, installed, written

LINES_OF_A_FILE = 350
LINES_OF_A_FUNCTION = 60
# They say that there is a thing, not which.
EMPTY_WORDS = {"found", "given", "kept", "known", "made", "taken"}

# Files that exist to touch the private names of other packages.
PRIVATE_NAMES_LIVE_IN = {
    "keras_en/keras_private.py",
    "keras_en/training/keras_private.py",
    "export/keras_private.py",
    "keras_en/ops/tracing.py",
}
# What looks private and is not, and the one private name without another way.
EXCEPTIONS = {
    "_exit": "the documented end of a process, of the module os",
    "_replace": "the interface of NamedTuple",
    "_asdict": "the interface of NamedTuple",
    "_fields": "the interface of NamedTuple",
}
EXCEPTIONS_OF_A_FILE = {
    ("export/onnx/jax.py", "_core"): "onnx_ir reads sizes there, and nowhere public",
    ("export/onnx/jax.py", "_maybe_convert_to_symbolic_dim"): "the function that does",
    ("tests/analysis/test_collect.py", "_inbound_nodes"): "the calls of a layer",
    ("tests/layers/test_inputs.py", "_keras_mask"): "how Keras hands a mask on",
}


def report(lines):
    lines = list(lines)
    assert not lines, "\n" + "\n".join(lines)


def is_private(name):
    return name.startswith("_") and not name.endswith("__") and name != "_"


def defined_names(node):
    """The names that a node brings into the world."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            return [name]
        case ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case ast.arg(arg=name):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.ExceptHandler(name=str(name)):
            return [name]
        case ast.alias(asname=str(name)):
            return [name]
    return []


def test_names_say_what_a_thing_is():
    report(
        f"{source.at(node)}: {name}"
        for source in written()
        for node in ast.walk(source.tree)
        for name in defined_names(node)
        if EMPTY_WORDS & set(name.lower().split("_"))
    )


def body_lines(function):
    """Lines from the first statement behind the docstring to the last."""
    start = 1 if ast.get_docstring(function) and len(function.body) > 1 else 0
    return function.end_lineno - function.body[start].lineno + 1


def test_functions_are_short():
    report(
        f"{source.at(node)}: {node.name} has {body_lines(node)} lines"
        for source in written()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and body_lines(node) > LINES_OF_A_FUNCTION
    )


def test_files_are_short():
    report(
        f"{source.path.relative_to(ROOT)}: {lines} lines"
        for source in written()
        if (lines := len(source.path.read_text(encoding="utf-8").splitlines()))
        > LINES_OF_A_FILE
    )


def owner_is_oneself(value):
    """Whether the owner of an attribute is `self`, `cls`, or `super()`."""
    match value:
        case ast.Name(id="self" | "cls"):
            return True
        case ast.Call(func=ast.Name(id="super")):
            return True
    return False


def foreign_private_name(node):
    """The private attribute of something else that a node touches, or `None`."""
    match node:
        case ast.Attribute(value=owner, attr=name):
            pass
        case ast.Call(
            func=ast.Name(id="getattr" | "hasattr" | "setattr" | "delattr"),
            args=[owner, ast.Constant(value=str(name)), *_],
        ):
            pass
        case _:
            return None
    return name if is_private(name) and not owner_is_oneself(owner) else None


def exceptions_of(path):
    return {
        name: why for (file, name), why in EXCEPTIONS_OF_A_FILE.items() if file == path
    }


def test_private_attributes_are_of_oneself():
    lines = []
    for source in written():
        path = str(source.path.relative_to(ROOT))
        if path in PRIVATE_NAMES_LIVE_IN:
            continue
        for node in ast.walk(source.tree):
            name = foreign_private_name(node)
            if name and name not in EXCEPTIONS | exceptions_of(path):
                lines.append(f"{source.at(node)}: {name}")
    report(lines)


def test_no_private_name_is_imported():
    report(
        f"{source.at(node)}: {module}.{name}"
        for source in written()
        for node, module, name in imports(source)
        if any(is_private(part) for part in [*module.split("."), name or ""])
    )


def test_private_tensorflow_is_imported_in_one_file():
    report(
        f"{source.at(node)}: {module}"
        for source in installed()
        for node, module, name in imports(source)
        if f"{module}.{name}.".startswith("tensorflow.python.")
        and source.module != "keras_en.ops.tracing"
    )


def test_exceptions_are_used():
    """A table of exceptions shrinks with the code."""
    for path, name in EXCEPTIONS_OF_A_FILE:
        assert name in (ROOT / path).read_text(encoding="utf-8"), (path, name)
