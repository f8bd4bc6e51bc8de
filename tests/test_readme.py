"""The pages: their Python, pasted and run; links, targets, names, versions."""

import re
import subprocess
import sys

import pytest

from tests.sources import ROOT, installed

README = (ROOT / "README.md").read_text(encoding="utf-8")
VERSIONS = ROOT / ".ci" / "versions.txt"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/*.md")]


def named(page):
    return str(page.relative_to(ROOT))


def blocks():
    """`(id, text)` of every block of Python of every page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, block in enumerate(
            re.findall(r"```python\n(.*?)```", text, flags=re.S)
        ):
            marks = [] if page.name == "README.md" else [pytest.mark.slow]
            yield pytest.param(block, id=f"{named(page)}-{number}", marks=marks)


def anchors(page):
    """The names of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.M):
        words = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
        yield re.sub(r"\s+", "-", words)


pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("block", [*blocks()])
def test_every_python_block_runs(block, tmp_path):
    assert len([line for line in block.splitlines() if line]) <= 15
    process = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            assert anchor in set(anchors(path)), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"(?:^|`)make (?!PYTHON)([\w./-]+)", text, flags=re.M)
    for target in set(targets):
        rule = rf"^(?:[\w./-]+ )*{re.escape(target)}(?: [\w./-]+)*:"
        assert re.search(rule, makefile, re.M), target


def test_the_readme_is_short():
    assert 600 <= len(README.split()) <= 900


def test_the_layout_names_every_package():
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    layout = contributing.split("## Layout")[1].split("\n## ")[0]
    folders = set(re.findall(r"^ *(\w+)/", layout, flags=re.M))
    packages = {source.path.parent.name for source in installed() if source.is_package}
    assert packages <= folders, packages - folders


def test_the_pages_name_the_versions_that_were_run():
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", VERSIONS.read_text(), flags=re.M))
    support = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    stated = support.split("Versions that were run:")[1].split("([all]")[0]
    names = re.findall(r"(\w+)\s([\d.]+\d)", stated)
    assert len(names) == 9
    for name, version in names:
        assert pinned[name.lower()] == version, name
