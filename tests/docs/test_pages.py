"""The pages that the site is made of: nothing that is public is missing."""

import re

import pytest

from docs.generate import pages
from tests.sources import ROOT
from tests.test_public import PUBLIC, public_objects

pytestmark = pytest.mark.tensorflow


def test_links_are_those_of_the_site():
    text = "[a](../../README.md#top) ![b](../ratios/x.png) [c](../../.ci/run) [d](#e)"
    assert pages.relinked(text, "docs/guides/ship.md") == (
        "[a](../index.md#top) ![b](../ratios/x.png) c [d](#e)"
    )
    text = "[a](benchmarks/results/gpu.md) [b](benchmarks/results) [c](https://d.e/f)"
    assert pages.relinked(text, "README.md") == (
        "[a](results/gpu.md) [b](results/index.md) [c](https://d.e/f)"
    )
    code = "```\nx[a](b)\n```\n"
    assert pages.relinked(code, "README.md") == code


def test_cells_become_a_page():
    text = "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 1  # %\n\n# %%\n"
    page = "# Title\n\nText.\n\n```python\nx = 1  # %\n```\n"
    assert pages.page_of_cells(text) == page


def test_examples_of_docstrings_become_code():
    text = '    Text.\n\n    >>> f([1][0])\n    1\n    >>> g()\n    """\n'
    assert pages.fenced(text) == (
        "    Text.\n\n    ```pycon\n    >>> f([1][0])\n    1\n    >>> g()\n    ```\n"
        '    """\n'
    )


def test_every_public_name_has_one_entry():
    assert set(PUBLIC) <= set(pages.PACKAGES)
    entries = re.findall(r"^::: (\S+)$", "\n".join(pages.reference().values()), re.M)
    assert len(entries) == len(set(entries))
    assert set(public_objects()) <= set(entries)


def test_builders_have_the_arguments_that_users_pass():
    text = pages.remade("keras_en.models")
    compile(text, "models", "exec", dont_inherit=True)
    (head,) = re.findall(r"^def ResNet50\(.*$", text, flags=re.M)
    assert "norm_kwargs" in head and "build" not in head
    assert "def CifarResNet20(" in text
    assert pages.remade("keras_en.export") == ""


def test_every_command_has_an_entry():
    page = pages.commands()
    entries = set(re.findall(r"^## keras-en ([\w-]+)$", page, flags=re.M))
    assert page.count("\nusage: keras-en") == len(entries) + 1
    # What other pages name is there.
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)keras-en ([a-z]\w*)", text, flags=re.M))
        assert named <= entries, path


def test_every_recipe_has_an_entry():
    entries = set(re.findall(r"^## (\w+)$", pages.recipes(), flags=re.M))
    folder = ROOT / "keras_en" / "training" / "recipes"
    assert entries == {path.stem for path in folder.rglob("*.yaml")} != set()


def test_every_file_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        assert f": {path.relative_to(ROOT / 'docs')}\n" in text
    for path in set(pages.ELSEWHERE.values()):
        folder = f": {path.removesuffix('index.md')}\n"
        assert f": {path}\n" in text or (folder in text and folder != ": \n"), path
