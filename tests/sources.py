"""The repository's Python, read but not run: files, modules, imports."""

import ast
import functools
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "keras_en": ROOT / "keras_en",
    "keras_en.models": ROOT / "models",
    "keras_en.export": ROOT / "export",
}


class Source(NamedTuple):
    path: Path
    module: str  # as it is imported; empty for a script

    @property
    def is_package(self):
        return self.path.name == "__init__.py"

    @property
    def room(self):
        """The first name below keras_en; empty for keras_en itself."""
        return (self.module.split(".")[1:] or [""])[0]

    @property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    @property
    def tree(self):
        return parsed(self.path)

    def at(self, node):
        """Where a node stands: a file and a line, from the root."""
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def installed():
    """Every module that a user gets."""
    sources = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [
                *package.split("."),
                *path.relative_to(folder).with_suffix("").parts,
            ]
            module = ".".join(part for part in parts if part != "__init__")
            sources.append(Source(path, module))
    return sources


@functools.cache
def written():
    """Every Python file of the repository: what is installed, and the rest."""
    others = [
        Source(path, "")
        for folder in ("tests", "benchmarks", "examples", ".ci", "docs")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    return [*installed(), *others]


def imports(source, nodes=None):
    """`(node, module, name)` of every import of a file, inside functions too, or of
    `nodes` only; `name` is `None` for `import module`. Relative ones are resolved."""
    for node in nodes or ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = source.module.split(".")
                above = node.level - source.is_package
                base = package[: len(package) - above]
                module = ".".join([*base, *filter(None, [module])])
            for alias in node.names:
                yield node, module, alias.name


def own_imports(source):
    """`(node, module)` of every module of keras_en that a file imports."""
    modules = {other.module for other in installed()}
    for node, module, name in imports(source):
        if f"{module}.{name}" in modules:
            yield node, f"{module}.{name}"
        elif module.split(".")[0] == "keras_en":
            yield node, module
