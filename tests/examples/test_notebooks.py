"""The notebooks run, in a short form, from a folder of their own."""

import os
import re
import subprocess
import sys

import pytest

from tests.sources import ROOT

# What makes each one short.
SHORT = {
    "digits": {"EPOCHS": "1"},
    "fine_tune": {"EPOCHS": "1", "WEIGHTS": "None", "IMAGES": "60"},
    "two_replicas": {"EPOCHS": "1"},
    "export_and_serve": {"EPOCHS": "1", "BATCHES": "(1, 3)"},
}


def test_every_notebook_is_run():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SHORT)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", SHORT)
def test_notebook(name, tmp_path):
    text = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    for constant, value in SHORT[name].items():
        text, changes = re.subn(
            rf"^{constant} = .*$", f"{constant} = {value}", text, flags=re.M
        )
        assert changes == 1, constant
    script = tmp_path / "notebook.py"
    script.write_text(text)
    process = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
