"""What a check of texts or rows comes to: findings with their words, sorted by how bad they are."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ml_playground.data_pipeline.checks.findings import (
    EXCERPT_BYTES,
    SEVERITIES,
    Check,
    Example,
    Place,
    Severity,
    Tally,
    excerpt_of,
)
from ml_playground.data_pipeline.checks.inputs import Input
from ml_playground.data_pipeline.checks.table import CHECKS

Kind = Literal["text", "chat"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One code that was found."""

    code: str
    check: Check
    count: int
    examples: tuple[Example, ...]
    note: str = ""
    """About all of them: which share of the text, beyond which length."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what was found."""

    kind: Kind
    documents: int
    """Documents, or files of rows."""
    rows: int
    """Lines of texts, or rows."""
    size_bytes: int
    findings: tuple[Finding, ...]
    facts: Mapping[str, float] = field(default_factory=dict[str, float])
    """What else was counted, by name."""

    def count(self, severity: Severity) -> int:
        """How many codes of this severity were found."""
        return sum(finding.check.severity == severity for finding in self.findings)


def findings_of(tally: Tally, notes: Mapping[str, str]) -> tuple[Finding, ...]:
    """Everything that was counted, the worst and most frequent first."""
    found = [
        Finding(code, CHECKS[code], count, tuple(tally.examples.get(code, ())), notes.get(code, ""))
        for code, count in tally.counts.items()
        if count
    ]
    return tuple(sorted(found, key=lambda one: (SEVERITIES.index(one.check.severity), -one.count, one.code)))


class Places:
    """From the number of a row among all rows to its file and line, and what stands there."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._names: list[str] = []
        self._paths: list[Path | None] = []

    def begin(self, document: Input, row: int) -> None:
        """This document's first line is that row."""
        self._starts.append(row)
        self._names.append(document.name)
        self._paths.append(document.path)

    def words(self, row: int) -> str:
        """`FILE:LINE`."""
        number = self._number(row)
        return f"{self._names[number]}:{row - self._starts[number] + 1}"

    def example(self, row: int, offset: int, note: str) -> Example:
        """A row as an example; without an excerpt where its bytes lie in no file."""
        number = self._number(row)
        path, excerpt = self._paths[number], ""
        if path is not None:
            with path.open("rb") as file:
                file.seek(offset)
                excerpt = excerpt_of(file.read(4 * EXCERPT_BYTES).partition(b"\n")[0], 0, 3 * EXCERPT_BYTES)
        return Example(Place(self._names[number], row - self._starts[number] + 1, offset), excerpt, note)

    def _number(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1


def share(part: float, whole: float) -> str:
    """`3.2 % of the text`, with as many figures as it takes."""
    return f"{part / whole:.2%} of the text" if whole else "none of the text"


def as_json(report: Report) -> Mapping[str, object]:
    """The report as JSON values."""
    return {
        "kind": report.kind,
        "documents": report.documents,
        "rows": report.rows,
        "size_bytes": report.size_bytes,
        "facts": dict(report.facts),
        "counts": {severity: report.count(severity) for severity in SEVERITIES},
        "findings": [_finding_json(finding) for finding in report.findings],
    }


def _finding_json(finding: Finding) -> Mapping[str, object]:
    check = finding.check
    examples: Sequence[Mapping[str, object]] = [
        {**example.place._asdict(), "excerpt": example.excerpt, "note": example.note} for example in finding.examples
    ]
    return {
        "code": finding.code,
        "severity": check.severity,
        "count": finding.count,
        "unit": check.unit,
        "title": check.title,
        "note": finding.note,
        "effect": check.effect,
        "remedy": check.remedy,
        "examples": examples,
    }
