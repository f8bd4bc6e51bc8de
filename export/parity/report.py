"""What was proven about an artefact."""

import json
from pathlib import Path
from typing import NamedTuple

PASSED, FAILED, NOT_RUN = "passed", "FAILED", "not run"


class Check(NamedTuple):
    """One thing that was looked at.

    - `gate`: its number, 1 to 7.
    - `name`, `status` ("passed", "FAILED" or "not run"), `detail`: text.
    - `measured`: dictionary of numbers.
    """

    gate: int
    name: str
    status: str
    detail: str = ""
    measured: dict = {}


class ParityReport(NamedTuple):
    """Whether an artefact is what its model is.

    - `artefact`, `kind`, `model`: text.
    - `passed`: whether no check failed.
    - `settings`: batches, sizes, tolerances and seed.
    - `versions`: of the packages that took part.
    - `record`: what the artefact says about itself.
    - `checks`: list of `Check`.
    """

    artefact: str
    kind: str
    model: str
    settings: dict
    versions: dict
    record: dict
    checks: list

    @property
    def passed(self):
        return all(check.status != FAILED for check in self.checks)

    @property
    def failures(self):
        return [check for check in self.checks if check.status == FAILED]

    def to_json(self):
        """The whole report as text, for programs."""
        facts = {"passed": self.passed, **self._asdict()}
        facts["checks"] = [check._asdict() for check in self.checks]
        return json.dumps(facts, indent=1)

    def to_markdown(self):
        """The whole report as text, for people."""
        lines = [
            f"# Parity: {'passed' if self.passed else 'FAILED'}",
            "",
            f"{self.kind} `{self.artefact}` against `{self.model}`.",
            "",
            "| gate | | | |",
            "|---|---|---|---|",
        ]
        for check in self.checks:
            lines.append(
                f"| {check.gate} | {check.name} | {check.status} | {check.detail} |"
            )
        lines += ["", "| setting | |", "|---|---|"]
        for name, value in {**self.settings, **self.versions}.items():
            lines.append(f"| {name} | {value} |")
        return "\n".join(lines) + "\n"

    def write(self, path):
        """Writes JSON to a path that ends in `.json`, otherwise Markdown."""
        path = Path(path)
        json_wanted = path.suffix == ".json"
        text = self.to_json() if json_wanted else self.to_markdown()
        path.write_text(text, encoding="utf-8")
