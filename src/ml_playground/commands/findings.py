"""Lines of a report: how it stands with something, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import typer

from ml_playground.core.humanise import plural

Level = Literal["ok", "warning", "problem"]
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    text: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


def show(findings: Sequence[Finding]) -> None:
    """Print one line a finding, its remedy below."""
    for finding in findings:
        level = typer.style(f"{finding.level:8}", fg=COLOURS[finding.level])
        typer.echo(f"{level} {finding.subject:14} {finding.text}")
        if finding.remedy:
            typer.echo(f"{'':24}-> {finding.remedy}")
    counts = {level: sum(finding.level == level for finding in findings) for level in COLOURS}
    verdict = "Something stands in the way of a run" if counts["problem"] else "Ready"
    more = f"{plural(counts['warning'], 'warning')}, {plural(counts['problem'], 'problem')}"
    typer.echo(f"\n{verdict}: {counts['ok']} ok, {more}.")
