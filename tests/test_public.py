"""What users import: every name has hints and an example, and the examples run."""

import doctest
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

from tests.sources import ROOT, installed

PUBLIC = [
    "keras_en",
    "keras_en.models",
    "keras_en.export",
    "keras_en.training",
    "keras_en.analysis",
    "keras_en.surgery",
]
EXAMPLES = {
    source.module: examples
    for source in installed()
    if (examples := len(re.findall(r"^ *>>> ", source.text, flags=re.M)))
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_objects():
    """Every class and function of `__all__`, by its name, each once."""
    objects = {}
    for package in PUBLIC:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and value not in objects.values():
                objects[f"{package}.{name}"] = value
    return objects


def function_of(value):
    """The function behind a member of a class, or `None`; of a property, its own."""
    value = getattr(value, "__func__", value)  # class and static methods
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    return inspect.unwrap(value) if inspect.isfunction(value) else None


def own_functions(value):
    """A function, or those of a class and of its bases that are written here."""
    if not inspect.isclass(value):
        if not isinstance(value, functools.partial):
            yield value
        return
    for base in value.__mro__:
        if base.__module__.split(".")[0] != "keras_en":
            continue
        for name, member in vars(base).items():
            if name == "__init__" or not name.startswith("_"):
                function = function_of(member)
                if function and Path(function.__code__.co_filename).is_file():
                    yield function


def without_hint(function):
    """The parameters of a function that lack a hint, and `return`."""
    # As users see it: a decorator may have said another.
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name in ("self", "cls") or several:
            continue
        if parameter.annotation is parameter.empty:
            yield parameter.name
    without_return = signature.return_annotation is signature.empty
    if without_return and function.__name__ != "__init__":
        yield "return"


def test_public_functions_have_hints():
    functions = {
        function: None
        for value in public_objects().values()
        for function in own_functions(value)
    }
    lines = []
    for function in functions:
        code = inspect.unwrap(function).__code__
        if missing := list(without_hint(function)):
            path = Path(code.co_filename).relative_to(ROOT)
            at = f"{path}:{code.co_firstlineno}"
            lines.append(f"{at}: {function.__qualname__}: {', '.join(missing)}")
    assert not lines, "\n" + "\n".join(sorted(lines))


def test_public_names_have_examples():
    lines = [
        name
        for name, value in public_objects().items()
        # The docstring of a partial function names the function that it is a part of.
        if not isinstance(value, functools.partial)
        and ">>> " not in (inspect.getdoc(value) or "")
    ]
    assert not lines, "\n" + "\n".join(lines)


def examples_of(module):
    """Those of a module, of functions that a decorator of another wraps too."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = finder.find(module)
    for name, value in vars(module).items():
        at_home = getattr(value, "__module__", None) == module.__name__
        if at_home and inspect.isfunction(value) and hasattr(value, "__wrapped__"):
            name = f"{module.__name__}.{name}"
            tests += finder.find(value, name, module=False, globs=vars(module))
    return {test.name: test for test in tests}.values()


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("module, examples", EXAMPLES.items())
def test_examples_run(module, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for those that write files
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in examples_of(importlib.import_module(module)):
        runner.run(test)
    failures, attempts = runner.summarize(verbose=False)
    assert failures == 0, module
    assert attempts == examples, f"{module}: {attempts} of {examples} were run"
