"""The pages: the README's Python, pasted and run; links, targets, names, versions."""

import re
import subprocess
import sys

import pytest

from tests.sources import ROOT, installed

README = (ROOT / "README.md").read_text(encoding="utf-8")
VERSIONS = ROOT / ".ci" / "versions.txt"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/*.md")]
SECTIONS = {
    section.splitlines()[0]: section
    for section in re.split(r"^## ", README, flags=re.M)[1:]
    if "```python" in section
}

pytestmark = pytest.mark.tensorflow


@pytest.mark.slow
@pytest.mark.parametrize("title", SECTIONS)
def test_every_python_block_runs(title, tmp_path):
    for block in re.findall(r"```python\n(.*?)```", SECTIONS[title], flags=re.S):
        assert len(block.splitlines()) <= 15
        process = subprocess.run(
            [sys.executable, "-c", block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    text = page.read_text(encoding="utf-8")
    for target in set(
        re.findall(r"(?:^|`)make (?!PYTHON)([\w./-]+)", text, flags=re.M)
    ):
        assert re.search(
            rf"^(?:[\w./]+ )*{re.escape(target)}(?: [\w./]+)*:", makefile, re.M
        ), target


def test_the_layout_names_every_package():
    layout = README.split("## Layout")[1]
    folders = set(re.findall(r"^ *(\w+)/", layout, flags=re.M))
    packages = {source.path.parent.name for source in installed() if source.is_package}
    assert packages <= folders, packages - folders


def test_the_readme_names_the_versions_that_were_run():
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", VERSIONS.read_text(), flags=re.M))
    stated = README.split("Versions that were run:")[1].split("([all]")[0]
    names = re.findall(r"(\w+)\s([\d.]+\d)", stated)
    assert len(names) == 9
    for name, version in names:
        assert pinned[name.lower()] == version, name
