"""What was proven about an artefact."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from keras_en.files import write_text
from keras_en.text import as_json, printable

from .checks import FAILED, Check


class ParityReport(NamedTuple):
    """Whether an artefact is what its model is.

    - `artefact`, `kind`, `model`: text.
    - `passed`: whether no check failed.
    - `failures`: the checks that failed.
    - `settings`: batches, sizes, tolerances and seed.
    - `versions`: of the packages that took part.
    - `record`: what the artefact says about itself.
    - `checks`: list of `Check`: `gate`, `name`, `status` ("passed", "FAILED" or "not
      run"), `detail` and `measured`, a dictionary of numbers.

    Example:

    >>> from keras_en.export import ParityReport
    >>> report = ParityReport("m.onnx", "ONNX", "net", {"seed": 0}, {}, {}, checks=[])
    >>> report.passed
    True
    >>> print(report.to_markdown())
    # Parity: passed
    <BLANKLINE>
    ONNX `m.onnx` against `net`.
    <BLANKLINE>
    | gate | | | |
    |---|---|---|---|
    <BLANKLINE>
    | setting | |
    |---|---|
    | seed | 0 |
    <BLANKLINE>
    """

    artefact: str
    kind: str
    model: str
    settings: dict[str, Any]
    versions: dict[str, str]
    record: dict[str, Any]
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if check.status == FAILED]

    def to_json(self) -> str:
        """The whole report as text, for programs."""
        facts = {"passed": self.passed, **self._asdict()}
        facts["checks"] = [check._asdict() for check in self.checks]
        return as_json(facts)

    def to_markdown(self) -> str:
        """The whole report as text, for people."""
        settings = {**self.settings, **self.versions}
        lines = [
            f"# Parity: {'passed' if self.passed else FAILED}",
            "",
            f"{self.kind} `{self.artefact}` against `{self.model}`.",
            "",
            "| gate | | | |",
            "|---|---|---|---|",
            *(
                f"| {c.gate} | {c.name} | {c.status} | {c.detail} |"
                for c in self.checks
            ),
            "",
            "| setting | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in settings.items()),
        ]
        return printable("\n".join(lines)) + "\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes JSON to a path that ends in `.json`, otherwise Markdown: a whole file,
        or what was there stays."""
        path = Path(path)
        for_programs = path.suffix == ".json"
        text = self.to_json() if for_programs else self.to_markdown()
        write_text(path, text)
