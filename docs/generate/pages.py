"""The pages of the site that are made when it is built, so that nothing is written
twice: of docstrings, parsers, recipes, results and examples."""

import contextlib
import functools
import importlib
import inspect
import io
import os
import re
import textwrap
from pathlib import Path, PurePosixPath
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RECIPES = ROOT / "keras_en" / "training" / "recipes"
EXAMPLES = ROOT / "examples"
# A page each.
PACKAGES = {
    "keras_en": "The layers, and surgery.",
    "keras_en.layers": "Layers that networks rarely need by name.",
    "keras_en.surgery": "Another normalization in a network that exists.",
    "keras_en.training": "The loop for many devices and hosts.",
    "keras_en.training.data": "Images of one's own.",
    "keras_en.analysis": "What a network chose.",
    "keras_en.models": "The networks of the paper.",
    "keras_en.export": "SavedModel and ONNX, and the proof.",
}
# Files of the repository that are pages of the site under another name.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/results": "results/index.md",
    "examples": "examples/index.md",
}


def site_path(path: str) -> str | None:
    """Where a file of the repository stands in the site; `None`: nowhere."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if re.fullmatch(r"benchmarks/results/[\w-]+\.md", path):
        return path.removeprefix("benchmarks/")
    return None


def relinked(text: str, path: str) -> str:
    """The text of a file, `path`, with its links as the site has them; a link to what
    the site does not have becomes its text."""
    origin = PurePosixPath(path).parent
    page = PurePosixPath(site_path(path) or path).parent

    def link(match):
        mark, words, target, anchor = match.groups(default="")
        there = site_path(os.path.normpath(origin / target))
        if there is None:
            return words
        return f"{mark}[{words}]({os.path.relpath(there, page)}{anchor})"

    pattern = r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)"
    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
    parts[::2] = [re.sub(pattern, link, part) for part in parts[::2]]
    return "".join(parts)


def texts() -> dict[str, str]:
    """Pages that are files of the repository: the path in the site, the file."""
    sources = [path for path in ELSEWHERE if path.endswith(".md")]
    for path in sorted(RESULTS.glob("*.md")):
        sources.append(f"benchmarks/results/{path.name}")
    return {str(site_path(path)): path for path in sources}


def title(text: str) -> str:
    """The first heading of a page."""
    match = re.search(r"^# (.*)$", text, flags=re.M)
    return match[1] if match else ""


def listing(heading: str, lines: list[str]) -> str:
    return f"# {heading}\n\n" + "\n".join(lines) + "\n"


def results() -> str:
    """The list of measurements."""
    lines = [
        f"- [{title(path.read_text(encoding='utf-8'))}]({path.name}): `{path.stem}`"
        for path in sorted(RESULTS.glob("*.md"))
    ]
    return listing(
        "Results",
        ["The last run of each script of `benchmarks/`, with machine and versions.", ""]
        + lines,
    )


def public_names(package: str) -> list[str]:
    """The classes and functions that a package offers."""
    module = importlib.import_module(package)
    return [name for name in module.__all__ if callable(getattr(module, name))]


def reference() -> dict[str, str]:
    """A page a package; a name of two packages stands in the first."""
    pages, homes = {}, {}
    for package, text in PACKAGES.items():
        module = importlib.import_module(package)
        lines = [f"# {package}", "", text, ""]
        for name in public_names(package):
            value = getattr(module, name)
            home = homes.setdefault(id(value), f"{package}.{name}")
            if home == f"{package}.{name}":
                lines += [f"::: {home}", ""]
            else:
                page = home.rpartition(".")[0]
                lines += [f"## {name}", "", f"See [`{home}`]({page}.md#{home}).", ""]
        pages[f"reference/{package}.md"] = "\n".join(lines)
    return pages


def remade(package: str) -> str:
    """A package as its users see it, if arguments of its functions are not those of
    their source, as of a decorator or a partial function; otherwise nothing."""
    module, imported, defined = importlib.import_module(package), [], []
    for name in public_names(package):
        value = getattr(module, name)
        signature = str(inspect.signature(value))
        source = str(inspect.signature(inspect.unwrap(value)))
        if isinstance(value, functools.partial) or signature != source:
            text = textwrap.indent(inspect.getdoc(value) or "", "    ")
            defined.append(f'def {name}{signature}:\n    """\n{text}\n    """\n')
        else:
            imported.append(f"from {value.__module__} import {name}\n")
    return "\n\n".join(["".join(imported), *defined]) if defined else ""


def fenced(source: str) -> str:
    """Sources whose examples in docstrings are blocks of code, as Markdown has them."""
    pattern = r'^( *)(>>> .*(?:\n\1(?!""").*\S.*)*)'
    return re.sub(pattern, r"\1```pycon\n\1\2\n\1```", source, flags=re.M)


def help_of(*arguments: str) -> str:
    """What a command says about itself."""
    from keras_en.cli import main

    output = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main([*arguments, "--help"])
    return output.getvalue()


def commands() -> str:
    """Every command, by its parser."""
    overview = help_of()
    lines = ["# Commands", "", "```text", overview.strip(), "```", ""]
    names = re.findall(r"^    (\w[\w-]*)(?:\s|$)", overview, flags=re.M)
    for name in names:
        text = help_of(name).strip()
        lines += [f"## keras-en {name}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def recipes() -> str:
    """Every recipe and every table, as their files say it."""
    lines = [
        *("# Recipes", ""),
        "`keras-en train NAME` trains one, `keras-en recipes NAME` prints it with the",
        "keys that it leaves out, and `keras-en reproduce TABLE` trains a table.",
        "",
    ]
    for folder in (RECIPES, RECIPES / "tables"):
        for path in sorted(folder.glob("*.yaml")):
            text = path.read_text(encoding="utf-8").strip()
            lines += [f"## {path.stem}", "", "```yaml", text, "```", ""]
    return "\n".join(lines)


def page_of_cells(text: str) -> str:
    """A page, of a script with `# %%` cells."""
    parts = []
    for cell in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = cell.partition("\n")
        if head.strip() == "[markdown]":
            parts.append(re.sub(r"^# ?", "", body, flags=re.M).strip())
        elif body.strip():
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def examples() -> dict[str, str]:
    """A page a notebook, and their list."""
    pages, lines = {}, []
    for path in sorted(EXAMPLES.glob("*.py")):
        page = page_of_cells(path.read_text(encoding="utf-8"))
        link = f"[As a notebook]({path.stem}.ipynb)"
        heading, _, rest = page.partition("\n")
        pages[f"examples/{path.stem}.md"] = f"{heading}\n\n{link}\n{rest}"
        lines.append(f"- [{title(page)}]({path.stem}.md)")
    pages["examples/index.md"] = listing("Examples", lines)
    return pages


def navigation(folder: str) -> list[str | dict[str, str]]:
    """The pages of a folder that are made, as `nav` of mkdocs.yml has them."""
    if folder == "reference/":
        return [{package: f"reference/{package}.md"} for package in PACKAGES]
    sources = {"results/": RESULTS.glob("*.md"), "examples/": EXAMPLES.glob("*.py")}
    stems = sorted(path.stem for path in sources[folder])
    return [f"{folder}index.md", *(f"{folder}{stem}.md" for stem in stems)]


def generated() -> dict[str, str]:
    """Every page that has no file: the path in the site, its text."""
    return {
        **reference(),
        "reference/commands.md": commands(),
        "reference/recipes.md": recipes(),
        "results/index.md": results(),
        **examples(),
    }
