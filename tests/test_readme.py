"""The README's Python, pasted and run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    section.splitlines()[0]: section
    for section in re.split(r"^## ", README, flags=re.M)[1:]
    if "```python" in section
}

pytestmark = pytest.mark.tensorflow


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


def test_every_link_and_make_target_exists():
    root = Path(__file__).parent.parent
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (root / target).exists(), target
    makefile = (root / "Makefile").read_text()
    for target in set(re.findall(r"`?make (\w+)", README)):
        if target not in ("sure",):
            assert f"\n{target}:" in makefile, target
